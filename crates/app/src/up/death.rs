//! The reason that a process gave for its end, out of its log.

/// The newest error line or panic; `None` where the log has neither.
pub fn reason_in(log: &str) -> Option<String> {
    let lines: Vec<&str> = log.lines().collect();
    let tells = |line: &&str| line.contains(" ERROR ") || line.starts_with("Error: ") || line.contains("panicked at ");
    let at = lines.iter().rposition(tells)?;
    let line = lines[at].trim();
    // A panic has its message on the next line.
    let message = lines.get(at + 1).filter(|_| line.contains("panicked at "));
    Some(message.map_or(line.to_string(), |message| format!("{line} {}", message.trim())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_error_or_panic_tells_why_and_other_lines_do_not() {
        let info = "2026-11-30T23:12:16Z  INFO trivet_node::node: coordination what=leads epoch 1\n";
        assert_eq!(reason_in(info), None);
        assert_eq!(reason_in(""), None);
        let error =
            "2026-11-30T23:12:17Z ERROR trivet_node::chunk: the chunk server cannot write in /d: no space; stopping";
        assert_eq!(reason_in(&format!("{info}{error}\n{info}")).as_deref(), Some(error));
        let panic =
            "thread 'metad' (7) panicked at crates/x.rs:3:5:\nindex out of bounds\nnote: run with `RUST_BACKTRACE=1`\n";
        let told = "thread 'metad' (7) panicked at crates/x.rs:3:5: index out of bounds";
        assert_eq!(reason_in(&format!("{error}\n{panic}")).as_deref(), Some(told));
        assert_eq!(reason_in("Error: no such port\n").as_deref(), Some("Error: no such port"));
    }
}
