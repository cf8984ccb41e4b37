//! Lists of members as clients send them and as files hold them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use trivet_coordination::ensemble::Ensemble;
use trivet_fuzz as _;

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    let _ = Ensemble::parse_next(&text);
    if let Ok(ensemble) = Ensemble::parse(&text) {
        let again = Ensemble::parse(&ensemble.to_string()).expect("what was written is read");
        assert_eq!(again.to_string(), ensemble.to_string());
    }
});
