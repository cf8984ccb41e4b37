//! The shell: commands from the terminal, or from a file; the session lives on between them, and events are shown.

use super::commands::{Client, Line};
use std::io::{BufRead, IsTerminal, Write};
use std::sync::mpsc;
use std::time::Duration;

/// Watch events that arrive while nobody types are shown within this time.
const EVENTS_PAUSE: Duration = Duration::from_millis(200);

#[derive(clap::Parser)]
#[command(name = "", multicall = true, disable_version_flag = true)]
struct Typed {
    #[command(subcommand)]
    line: Line,
}

pub fn run(client: &mut Client) -> anyhow::Result<()> {
    let (sender, lines) = mpsc::sync_channel(16);
    let interactive = std::io::stdin().is_terminal();
    // Reading blocks, and the session must live meanwhile.
    std::thread::Builder::new().name("terminal".into()).spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    })?;
    let mut failed = 0;
    let mut prompt = true;
    loop {
        if interactive && prompt {
            print!("{}{}> ", client.session.server, if client.root.is_empty() { "/" } else { &client.root });
            std::io::stdout().flush()?;
        }
        prompt = false;
        match lines.recv_timeout(EVENTS_PAUSE) {
            Ok(line) => {
                prompt = true;
                match line.trim() {
                    "" => {}
                    "quit" | "exit" => break,
                    text => {
                        if let Err(e) = one(client, text) {
                            failed += 1;
                            eprintln!("{e:#}");
                        }
                    }
                }
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {
                // Keeps the session alive as well.
                if let Some(event) = client.session.event(EVENTS_PAUSE)? {
                    client.say_event(&event);
                }
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
        }
    }
    if failed > 0 && !interactive {
        anyhow::bail!("{failed} commands failed");
    }
    Ok(())
}

fn one(client: &mut Client, text: &str) -> anyhow::Result<()> {
    use clap::Parser;
    match Typed::try_parse_from(words(text)?) {
        Ok(typed) => client.carry_out(&typed.line),
        Err(e) => anyhow::bail!("{}", e.render().to_string().trim_end()),
    }
}

/// Words with blanks between them; quotes keep blanks.
fn words(text: &str) -> anyhow::Result<Vec<String>> {
    let (mut out, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (q, '\\') if q != Some('\'') => {
                let next = chars.next().ok_or_else(|| anyhow::anyhow!("nothing follows the last \\"))?;
                word.get_or_insert_default().push(next);
            }
            (None, c) if c.is_whitespace() => out.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        anyhow::bail!("a quote has no end");
    }
    out.extend(word);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_kept_together_by_quotes() {
        assert_eq!(words("set /a \"b c\" -v 3").unwrap(), ["set", "/a", "b c", "-v", "3"]);
        assert_eq!(words("set /a '' \\\"x 'a\"b'").unwrap(), ["set", "/a", "", "\"x", "a\"b"]);
        assert!(words("get \"/a").is_err() && words("get \\").is_err());
    }

    #[test]
    fn typed_lines_are_commands() {
        use clap::Parser;
        let line = |text: &str| Typed::try_parse_from(words(text).unwrap());
        assert!(matches!(
            line("create -e -s /a x").unwrap().line,
            Line::Create { ephemeral: true, sequential: true, .. }
        ));
        assert!(line("nothing /a").is_err() && line("ls").is_err());
    }
}
