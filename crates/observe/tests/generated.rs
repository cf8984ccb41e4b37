//! The files that are made from the catalogue are those that the catalogue makes.

use std::path::PathBuf;
use trivet_observe::generated::{documentation, prometheus_rules, prometheus_tests};
use trivet_observe::Language;

#[test]
fn generated_files_are_up_to_date() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    let files = [
        ("contrib/prometheus/rules.yml", prometheus_rules()),
        ("contrib/prometheus/rules_test.yml", prometheus_tests()),
        ("docs/alerts.md", documentation(Language::En)),
        ("docs/zh/alerts.md", documentation(Language::Zh)),
    ];
    for (path, text) in files {
        let file = root.join(path);
        if std::env::var_os("TRIVET_UPDATE").is_some() {
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(&file, &text).unwrap();
        }
        let found = std::fs::read_to_string(&file).unwrap_or_default();
        assert!(found == text, "{path} is not what the catalogue makes: run with TRIVET_UPDATE=1");
    }
}
