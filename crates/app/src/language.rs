//! The language of the environment.

use trivet_observe::Language;

/// Chinese where the environment's first set locale is Chinese, else English.
pub fn from_environment() -> Language {
    let set = ["LC_ALL", "LC_MESSAGES", "LANG"].iter().find_map(|k| std::env::var(k).ok().filter(|v| !v.is_empty()));
    set.map_or(Language::En, |tag| Language::of_tag(&tag))
}
