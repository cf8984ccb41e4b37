//! Votes and probes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use trivet_coordination::ensemble::Ensemble;
use trivet_formats::election::{LinkProbe, Notification, Probe};
use trivet_fuzz as _;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(n) = Notification::decode(bytes) {
        let _ = Ensemble::parse(&String::from_utf8_lossy(&n.config));
        let _ = Notification::decode(&n.encode());
    }
    let _ = Probe::decode(bytes);
    let _ = LinkProbe::decode(bytes);
});
