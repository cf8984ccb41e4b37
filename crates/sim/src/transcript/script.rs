//! The form of a transcript: comments, blocks of commands, and below `----` the answer of each block.

use std::fmt;

/// Stands between the commands of a block and their answer.
const ANSWER: &str = "----";
/// Commands of one script at most. A longer one is refused, and is better split into several scenes.
const COMMANDS_MAX: usize = 200;

/// The machine that a script drives.
pub trait Machine {
    /// Carries one command out, and returns the lines that say what happened.
    ///
    /// # Errors
    /// The command is not known, or cannot be carried out now.
    fn command(&mut self, words: &[&str]) -> Result<Vec<String>, String>;
}

/// A number in a command.
///
/// # Errors
/// The word is not a number of this type.
pub(super) fn number<T: std::str::FromStr>(word: &str) -> Result<T, String> {
    word.parse().map_err(|_| format!("{word:?} is not a number"))
}

/// A command that could not be carried out.
#[derive(Debug, PartialEq, Eq)]
pub struct ScriptError {
    /// Line of the file, from 1.
    pub line: usize,
    /// The command as the script has it.
    pub command: String,
    /// Why it was refused.
    pub reason: String,
}

impl fmt::Display for ScriptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: `{}`: {}", self.line, self.command, self.reason)
    }
}
impl std::error::Error for ScriptError {}

/// The script's text with the answers of this run in place of those that it had.
///
/// # Errors
/// A command fails, or there are more than [`COMMANDS_MAX`].
pub fn transcribe(text: &str, machine: &mut dyn Machine) -> Result<String, ScriptError> {
    let mut out = String::new();
    let mut lines = text.lines().enumerate().peekable();
    let mut commands = 0;
    while let Some((at, line)) = lines.next() {
        out += line;
        out.push('\n');
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let mut answer = run(machine, at, line)?;
        commands += 1;
        while let Some((at, line)) = lines.next_if(|(_, l)| !l.is_empty() && *l != ANSWER) {
            out += line;
            out.push('\n');
            answer.extend(run(machine, at, line)?);
            commands += 1;
        }
        if commands > COMMANDS_MAX {
            let reason = format!("more than {COMMANDS_MAX} commands: split the scene");
            return Err(ScriptError { line: at + 1, command: line.into(), reason });
        }
        // The answer that the file had ends with the next empty line.
        while lines.next_if(|(_, l)| !l.is_empty()).is_some() {}
        out += ANSWER;
        out.push('\n');
        if answer.is_empty() {
            answer.push("ok".into());
        }
        for line in answer {
            out += &line;
            out.push('\n');
        }
    }
    Ok(out)
}

fn run(machine: &mut dyn Machine, at: usize, line: &str) -> Result<Vec<String>, ScriptError> {
    let words: Vec<&str> = line.split_whitespace().collect();
    machine.command(&words).map_err(|reason| ScriptError { line: at + 1, command: line.into(), reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Echo;
    impl Machine for Echo {
        fn command(&mut self, words: &[&str]) -> Result<Vec<String>, String> {
            match words {
                ["say", rest @ ..] => Ok(rest.iter().map(|w| (*w).to_string()).collect()),
                _ => Err("no such command".into()),
            }
        }
    }

    #[test]
    fn answers_are_replaced_and_everything_else_stays() {
        let script = "# A comment.\n\nsay a b\nsay c\n----\nan old\nanswer\n\n# Silence.\nsay\n";
        let wanted = "# A comment.\n\nsay a b\nsay c\n----\na\nb\nc\n\n# Silence.\nsay\n----\nok\n";
        let got = transcribe(script, &mut Echo).unwrap();
        assert_eq!(got, wanted);
        assert_eq!(transcribe(&got, &mut Echo).unwrap(), wanted, "a transcript is its own script");
    }

    #[test]
    fn a_command_that_fails_is_named_with_its_line() {
        let failed = transcribe("# A comment.\nsay a\nshout\n", &mut Echo).unwrap_err();
        assert_eq!(failed.to_string(), "line 3: `shout`: no such command");
    }

    #[test]
    fn a_script_has_a_limit() {
        let failed = transcribe(&"say a\n".repeat(COMMANDS_MAX + 1), &mut Echo).unwrap_err();
        assert!(failed.reason.contains("split the scene"), "{failed}");
    }
}
