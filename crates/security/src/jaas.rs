//! JAAS files: which login modules a section has, with their options.
//!
//! `Server { org.apache.zookeeper.server.auth.DigestLoginModule required user_bob="secret"; };`
//= OpenJDK sun.security.provider.ConfigFile (syntax of javax.security.auth.login.Configuration)

use std::collections::BTreeMap;

/// Sections of a file and modules of a section; a file with more is refused.
const ENTRIES_MAX: usize = 1_000;

/// A login module of a section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Module {
    /// Name of its class, with the package.
    pub class: String,
    /// Its options, without the quotes of their values.
    pub options: BTreeMap<String, String>,
}

impl Module {
    /// The class without its package.
    pub fn name(&self) -> &str {
        self.class.rsplit('.').next().unwrap_or_default()
    }
    /// Users and passwords of a `DigestLoginModule` of servers.
    pub fn users(&self) -> BTreeMap<String, String> {
        let users = self.options.iter().filter_map(|(k, v)| Some((k.strip_prefix("user_")?.to_string(), v.clone())));
        users.collect()
    }
}

/// Sections by their names, with the modules of each in the order of the file.
pub type Sections = BTreeMap<String, Vec<Module>>;

/// Why a file is no JAAS configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct JaasError {
    /// Number of the line, from 1.
    pub line: usize,
    /// The reason, as text.
    pub reason: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Word(String),
    Sign(char),
}

/// Reads a file; comments of both kinds are skipped.
///
/// # Errors
/// Where the text is no JAAS configuration: the line, and what was expected there.
pub fn parse(text: &str) -> Result<Sections, JaasError> {
    let mut t = Tokens { list: tokens(text)?, at: 0 };
    let mut sections = Sections::new();
    while t.peek().is_some() {
        let name = t.word("the name of a section")?;
        t.sign('{')?;
        let mut modules = Vec::new();
        while t.peek() != Some(&Token::Sign('}')) {
            let class = t.word("the class of a login module")?;
            let flag = t.word("required, requisite, sufficient or optional")?;
            if !["required", "requisite", "sufficient", "optional"].contains(&flag.to_lowercase().as_str()) {
                return Err(t.error(format!("{flag} is none of required, requisite, sufficient and optional")));
            }
            let mut options = BTreeMap::new();
            while t.peek() != Some(&Token::Sign(';')) {
                let key = t.word("an option, or ; at the end of the module's options")?;
                t.sign('=')?;
                options.insert(key, t.word("the option's value")?);
            }
            t.sign(';')?;
            modules.push(Module { class, options });
            if modules.len() > ENTRIES_MAX {
                return Err(t.error("too many login modules".into()));
            }
        }
        t.sign('}')?;
        t.sign(';')?;
        if sections.insert(name.clone(), modules).is_some() {
            return Err(t.error(format!("the section {name} stands here a second time")));
        }
        if sections.len() > ENTRIES_MAX {
            return Err(t.error("too many sections".into()));
        }
    }
    Ok(sections)
}

struct Tokens {
    list: Vec<(usize, Token)>,
    at: usize,
}

impl Tokens {
    fn peek(&self) -> Option<&Token> {
        self.list.get(self.at).map(|(_, t)| t)
    }
    fn error(&self, reason: String) -> JaasError {
        let line = self.list.get(self.at).or(self.list.last()).map_or(1, |(line, _)| *line);
        JaasError { line, reason }
    }
    fn word(&mut self, what: &str) -> Result<String, JaasError> {
        match self.peek() {
            Some(Token::Word(w)) => {
                let w = w.clone();
                self.at += 1;
                Ok(w)
            }
            _ => Err(self.error(format!("{what} is expected"))),
        }
    }
    fn sign(&mut self, sign: char) -> Result<(), JaasError> {
        if self.peek() != Some(&Token::Sign(sign)) {
            return Err(self.error(format!("{sign} is expected")));
        }
        self.at += 1;
        Ok(())
    }
}

fn tokens(text: &str) -> Result<Vec<(usize, Token)>, JaasError> {
    let mut out = Vec::new();
    let mut line = 1;
    let mut c = text.chars().peekable();
    while let Some(first) = c.next() {
        match first {
            '\n' => line += 1,
            ch if ch.is_whitespace() => {}
            '#' => skip_line(&mut c),
            '/' if c.peek() == Some(&'/') => skip_line(&mut c),
            '/' if c.peek() == Some(&'*') => {
                let begun = line;
                let mut last = ' ';
                c.next();
                loop {
                    let Some(ch) = c.next() else {
                        return Err(JaasError { line: begun, reason: "a comment has no end".into() });
                    };
                    line += usize::from(ch == '\n');
                    if last == '*' && ch == '/' {
                        break;
                    }
                    last = ch;
                }
            }
            '{' | '}' | ';' | '=' => out.push((line, Token::Sign(first))),
            quote @ ('"' | '\'') => {
                let mut word = String::new();
                loop {
                    match c.next() {
                        Some(ch) if ch == quote => break,
                        Some('\\') => word.push(match c.next() {
                            Some('n') => '\n',
                            Some('t') => '\t',
                            Some(ch) if ch != '\n' => ch,
                            _ => return Err(JaasError { line, reason: "a quoted value has no end".into() }),
                        }),
                        Some(ch) if ch != '\n' => word.push(ch),
                        _ => return Err(JaasError { line, reason: "a quoted value has no end".into() }),
                    }
                }
                out.push((line, Token::Word(word)));
            }
            ch => {
                let mut word = String::from(ch);
                while let Some(ch) = c.next_if(|ch| !ch.is_whitespace() && !"{};=\"'".contains(*ch)) {
                    word.push(ch);
                }
                out.push((line, Token::Word(word)));
            }
        }
    }
    Ok(out)
}

fn skip_line(c: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    while c.next_if(|ch| *ch != '\n').is_some() {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_modules_and_options_of_the_forms_that_sites_have() {
        let text = "// comment\nServer {\n  org.apache.zookeeper.server.auth.DigestLoginModule required\n  user_super=\"adminsecret\"\n\
            user_bob=\"bob \\\"secret\\\"\" # more\n ;\n};\n/* Kerberos,\n later */ QuorumServer { com.sun.security.auth.module.Krb5LoginModule \
            REQUIRED useKeyTab=true keyTab='/etc/zk.keytab'; };\nEmpty {};";
        let s = parse(text).unwrap();
        assert_eq!(s.keys().collect::<Vec<_>>(), ["Empty", "QuorumServer", "Server"]);
        let users = s["Server"][0].users();
        assert_eq!((users["super"].as_str(), users["bob"].as_str()), ("adminsecret", "bob \"secret\""));
        let kerberos = &s["QuorumServer"][0];
        assert_eq!((kerberos.name(), kerberos.options["keyTab"].as_str()), ("Krb5LoginModule", "/etc/zk.keytab"));
        assert!(parse("").unwrap().is_empty());
    }

    #[test]
    fn odd_grammar_is_refused_with_its_line() {
        for (text, line) in [
            ("Server {\n X required\n user_a=\"b\"\n}", 4),
            ("Server {\n X required a=b;\n}", 3),
            ("Server", 1),
            ("Server {\n X maybe;};", 2),
            ("\nServer { X required a=\"b\n\";};", 2),
            ("A { };\nA { };", 2),
            ("/* never\n\n", 1),
            ("A { X required a b; };", 1),
            ("A { X required =b; };", 1),
        ] {
            let e = parse(text).expect_err(text);
            assert_eq!(e.line, line, "{text:?}: {e}");
        }
    }
}
