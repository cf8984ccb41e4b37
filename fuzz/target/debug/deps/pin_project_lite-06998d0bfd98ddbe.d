/work/wt/zk/fuzz/target/debug/deps/pin_project_lite-06998d0bfd98ddbe.d: /root/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/pin-project-lite-0.2.18/src/lib.rs

/work/wt/zk/fuzz/target/debug/deps/libpin_project_lite-06998d0bfd98ddbe.rmeta: /root/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/pin-project-lite-0.2.18/src/lib.rs

/root/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/pin-project-lite-0.2.18/src/lib.rs:
