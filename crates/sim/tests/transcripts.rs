//! Every transcript is what its script gives: see `trivet_sim::transcript`.

use trivet_sim::transcript;

#[test]
fn every_transcript_is_what_its_script_gives() {
    let all = transcript::all().expect("the transcripts can be read");
    assert!(!all.is_empty(), "there are transcripts");
    let mut differ = Vec::new();
    for t in all {
        let got = t.run().unwrap_or_else(|e| panic!("{}: {e}", t.path.display()));
        if got == t.text {
            continue;
        }
        let first = got.lines().zip(t.text.lines()).position(|(new, old)| new != old);
        let line = first.unwrap_or_else(|| got.lines().count().min(t.text.lines().count()));
        let at = |text: &str| text.lines().nth(line).unwrap_or("(the end)").to_string();
        differ.push(format!("{}:{}\n  file: {}\n  run:  {}", t.path.display(), line + 1, at(&t.text), at(&got)));
    }
    assert!(differ.is_empty(), "read the difference after `cargo xtask transcripts`:\n{}", differ.join("\n"));
}
