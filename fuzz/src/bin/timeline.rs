//! Logs: lines as they come, and lines within every layout, prefix and kind of JSON, in several files; then the analysis and
//! every form of the report.
#![no_main]

use libfuzzer_sys::fuzz_target;
use trivet_forensics::json_lines::{ENTRIES, ENVELOPES};
use trivet_forensics::layouts::LAYOUTS;
use trivet_forensics::narrow::{narrow, Narrow};
use trivet_forensics::prefixes::PREFIXES;
use trivet_forensics::report::{self, Lang};
use trivet_forensics::site::Patterns;
use trivet_forensics::{analyse, Reader};
use trivet_fuzz as _;

/// Begins the next file.
const NEXT_FILE: u8 = 0xff;
/// Stands before a line that goes into an example, whose number is the next byte.
const WITHIN: u8 = 0xfe;

/// Lines of one input that go into an example: the report of more is larger than the allocator permits.
const WITHIN_MAX: usize = 1_000;

/// The line in the place of an example's message.
fn within(which: u8, line: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(line);
    let quoted = || serde_json::to_string(&text).map(|t| t[1..t.len() - 1].to_string()).unwrap_or_default();
    let layouts = LAYOUTS.iter().map(|l| l.example.replace("LOOKING", &text));
    let prefixes = PREFIXES.iter().map(|p| p.example.replace("LINE", &text));
    let entries = ENTRIES.iter().map(|e| e.example.replace("LOOKING", &quoted()));
    let envelopes = ENVELOPES.iter().map(|e| e.example.replace("LINE", &quoted()));
    let count = LAYOUTS.len() + PREFIXES.len() + ENTRIES.len() + ENVELOPES.len();
    let mut all = layouts.chain(prefixes).chain(entries).chain(envelopes);
    all.nth(usize::from(which) % count).unwrap_or_default().into_bytes()
}

fuzz_target!(|bytes: &[u8]| {
    let mut reader = Reader::default();
    reader.year = Some(2026);
    reader.patterns = Patterns::parse("no leader = cannot * LEADER").expect("a pattern");
    let mut left = WITHIN_MAX;
    for (number, file) in bytes.split(|b| *b == NEXT_FILE).enumerate() {
        reader.file(&format!("case/node{number}.log"));
        for line in file.split(|b| *b == b'\n') {
            match line {
                [WITHIN, which, line @ ..] if left > 0 => {
                    left -= 1;
                    reader.line(&within(*which, line));
                }
                _ => reader.line(line),
            }
        }
    }
    let (facts, files) = reader.finish();
    let mut analysis = analyse(facts, files);
    for lang in [Lang::English, Lang::Chinese] {
        let _ = report::text(&analysis, lang, true);
        let _ = report::markdown(&analysis, lang);
        let _ = report::html(&analysis, lang);
    }
    let _ = report::json(&analysis);
    let first = analysis.story.first;
    narrow(&mut analysis, Narrow { from: Some(first.saturating_add(1_000)), to: None, node: Some(1) });
    let _ = report::text(&analysis, Lang::English, false);
});
