//! Lines of the audit log: Apache's fields in Apache's order.
//= zookeeper 3.9 audit/AuditEvent.java

pub(crate) const SUCCESS: &str = "success";
pub(crate) const FAILURE: &str = "failure";

/// A line of the audit log, without its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditLine {
    /// The line as Apache writes it: `name=value` with tabs between them.
    pub text: String,
    /// The operation was carried out.
    pub done: bool,
}

impl AuditLine {
    /// `fields` that have no value are left out. Names that clients chose do not break lines.
    pub fn new(fields: &[(&str, Option<&str>)], result: &str) -> AuditLine {
        let clean = |value: &str| value.replace(|c: char| c.is_control(), "?");
        let field = |(name, value): &(&str, Option<&str>)| value.map(|value| format!("{name}={}\t", clean(value)));
        let mut text: String = fields.iter().filter_map(field).collect();
        text += &format!("result={result}");
        AuditLine { text, done: result != FAILURE }
    }
}
