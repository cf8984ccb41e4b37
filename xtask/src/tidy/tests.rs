use super::source::{file, Tree};
use super::*;

fn tree(files: &[(&str, &str)]) -> Tree {
    let files = files.iter().map(|(path, text)| file(path, &format!("//! A file.\n{text}"))).collect();
    Tree { files, crates: Vec::new() }
}

fn rules(tree: &Tree) -> Vec<(String, &'static str)> {
    check(tree, &limits::table(tree)).into_iter().map(|f| (f.path, f.rule)).collect()
}

#[test]
fn a_planted_circle_is_found() {
    let good = [
        ("crates/storage/src/a.rs", "use crate::{b::B, c};\n"),
        ("crates/storage/src/b.rs", "use super::c::C;\n"),
        ("crates/storage/src/c.rs", "pub struct C;\n"),
    ];
    assert_eq!(rules(&tree(&good)), []);
    let mut bad = good;
    bad[2].1 = "use crate::{\n    x,\n    a::{A, D},\n};\n";
    let found: Vec<_> = rules(&tree(&bad)).into_iter().map(|(p, r)| format!("{r} {p}")).collect();
    let expected = ["a", "b", "c"].map(|m| format!("circle crates/storage/src/{m}.rs"));
    assert_eq!(found, expected);
}

#[test]
fn a_parent_and_its_children_are_one_room() {
    let t = tree(&[
        ("crates/storage/src/a.rs", "mod b;\nuse self::b::B;\nfn f() { crate::a::b::g() }\n"),
        ("crates/storage/src/a/b.rs", "use super::A;\n"),
    ]);
    assert_eq!(rules(&t), []);
}

#[test]
fn a_planted_clock_in_a_pure_crate_is_found_and_one_in_a_driver_is_not() {
    let clock = "fn f() { let now = std::time::Instant::now(); }\n";
    let t = tree(&[("crates/coordination/src/a.rs", clock), ("crates/node/src/a.rs", clock)]);
    assert_eq!(rules(&t), [("crates/coordination/src/a.rs".to_string(), "pure")]);
    let t = tree(&[("crates/coordination/src/a.rs", "use std::collections::{HashMap, VecDeque};\n")]);
    assert_eq!(rules(&t), [("crates/coordination/src/a.rs".to_string(), "pure")]);
}

#[test]
fn clocks_of_tests_and_comments_are_allowed() {
    let t = tree(&[
        (
            "crates/coordination/src/a.rs",
            "// Instant::now\n#[cfg(test)]\nmod tests {\n    // std::fs\n    fn f() { Instant::now() }\n}\n",
        ),
        ("crates/coordination/src/a/tests.rs", "fn f() { Instant::now() }\n"),
    ]);
    assert_eq!(rules(&t), []);
}

#[test]
fn a_limit_that_the_table_lacks_or_that_has_no_sentence_is_found() {
    let t = tree(&[("crates/node/src/a.rs", "/// Calls, 64; the next one waits.\npub const CALLS_MAX: usize = 64;\n")]);
    assert_eq!(check(&t, &limits::table(&t)), []);
    assert_eq!(check(&t, "").len(), 1);
    let changed = limits::table(&t).replace("64;", "32;");
    assert_eq!(check(&t, &changed).len(), 2, "the table tells another sentence");
    let t = tree(&[("crates/node/src/a.rs", "const CALLS_MAX: usize = 64;\n")]);
    assert_eq!(rules(&t), [("crates/node/src/a.rs".to_string(), "limit")]);
}

#[test]
fn a_dependency_that_points_up_is_found() {
    let mut t = tree(&[]);
    t.crates = vec![("storage".into(), vec!["formats".into()]), ("node".into(), vec!["storage".into()])];
    assert_eq!(rules(&t), []);
    t.crates[0].1 = vec!["node".into()];
    assert_eq!(rules(&t), [("crates/storage/Cargo.toml".to_string(), "layers")]);
    t.crates = vec![("node".into(), vec!["sim".into()])];
    assert_eq!(rules(&t), [("crates/node/Cargo.toml".to_string(), "layers")], "the simulator never ships");
}

#[test]
fn a_function_that_is_too_long_is_found() {
    let long = format!("fn f() {{\n{}}}\n", "    g();\n".repeat(130));
    let t = tree(&[("crates/node/src/a.rs", &long)]);
    assert_eq!(rules(&t), [("crates/node/src/a.rs".to_string(), "length")]);
}

#[test]
fn an_excuse_that_excuses_nothing_is_a_finding() {
    let excused = Excused::parse("# why\nlength crates/node/src/a.rs\n").unwrap();
    let finding = |path: &str| Finding { path: path.into(), rule: "length", text: String::new() };
    assert_eq!(excused.apply(vec![finding("crates/node/src/a.rs")]), []);
    assert_eq!(excused.apply(vec![finding("crates/node/src/b.rs")]).len(), 2);
    assert!(Excused::parse("length\n").is_err());
}

#[test]
fn a_comment_without_a_subject_is_found_and_a_count_never_rises() {
    let t = tree(&[(
        "crates/disk/src/a.rs",
        "/// What a copy has.\n/// It goes on anew.\n// Ongoing: the word may stand inside another, as goes once.\nfn f() {}\n",
    )]);
    let refused = ["goes on".to_string()];
    let allowed = |text| words::Allowed::parse(text).expect("a list");
    let found = words::check(&t, &allowed(""), &refused);
    assert_eq!(found.len(), 1);
    assert!(found[0].text.contains("lines 2 (begins with What), 3 (says \"goes on\")"), "{}", found[0].text);
    assert_eq!(words::check(&t, &allowed("2 crates/disk/src/a.rs"), &refused), []);
    assert_eq!(words::check(&t, &allowed("1 crates/disk/src/a.rs"), &refused).len(), 1);
    assert!(words::Allowed::parse("many crates/disk/src/a.rs").is_err());
}

#[test]
fn a_pronoun_may_begin_a_later_sentence_of_a_comment_and_not_its_first() {
    let t = tree(&[(
        "crates/disk/src/a.rs",
        "fn e() {}\n/// It leads.\nfn f() {}\n/// A leader serves.\n/// It has a quorum.\n///\n/// They follow.\nfn g() {}\n",
    )]);
    let found = words::check(&t, &words::Allowed::parse("").expect("a list"), &[]);
    assert!(found[0].text.contains("lines 3 (begins with It), 8 (begins with They)"), "{}", found[0].text);
}
