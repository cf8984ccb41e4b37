//! A reply as a bounded tree, and the fault in it.

use crate::journal::Outcome;
use crate::session::Failure;
use roxmltree::{Document, Node, ParsingOptions};

/// A reply longer than this many bytes is refused; pages are a hundredth of it.
pub const REPLY_BYTES_MAX: usize = 16 << 20;
/// Nodes of one reply; a reply with more is refused, so that a tree stays below about 100 MB.
pub const REPLY_NODES_MAX: u32 = 600_000;
/// Elements within elements; vSphere's replies have less than 20.
pub const REPLY_DEPTH_MAX: usize = 64;

/// Why a reply is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SoapError {
    /// Longer than [`REPLY_BYTES_MAX`].
    #[error("the reply is longer than {REPLY_BYTES_MAX} bytes; is this a vCenter?")]
    TooLong,
    /// More nodes than [`REPLY_NODES_MAX`], or more objects than a reading may have.
    #[error("the reply has more than {REPLY_NODES_MAX} nodes")]
    TooManyNodes,
    /// Deeper than [`REPLY_DEPTH_MAX`].
    #[error("the reply is nested deeper than {REPLY_DEPTH_MAX} elements")]
    TooDeep,
    /// A document type definition, with which a short reply could grow without end.
    #[error("the reply contains a document type definition, which is refused")]
    Dtd,
    /// No XML, for this reason.
    #[error("the reply is no XML: {0}")]
    NotXml(String),
    /// The reply has no such part.
    #[error("the reply lacks {0}; is this a vCenter?")]
    Lacks(&'static str),
    /// The reply is a fault.
    #[error("{0}")]
    Fault(Fault),
}

/// A SOAP fault by the class that vSphere gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Class of the fault, such as `InvalidLogin`.
    pub kind: String,
    /// Its text.
    pub text: String,
    /// Fields of the fault: `privilegeId`, `name`, `object`.
    pub fields: Vec<(String, String)>,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let fields: Vec<String> = self.fields.iter().map(|(k, v)| format!("{k} {v}")).collect();
        write!(f, "vCenter answers {}", self.kind)?;
        if !self.text.is_empty() {
            write!(f, ": {}", self.text)?;
        }
        if fields.is_empty() {
            Ok(())
        } else {
            write!(f, " ({})", fields.join(", "))
        }
    }
}

impl Fault {
    /// A field of the fault by its name.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(k, _)| k == name).map(|(_, v)| v.as_str())
    }

    /// The fault as the session judges it.
    pub fn failure(&self) -> Failure {
        match self.kind.as_str() {
            "InvalidLogin" | "InvalidLocale" | "PasswordExpired" => Failure::InvalidLogin,
            "NotAuthenticated" => Failure::NotAuthenticated,
            "NoPermission" => {
                Failure::NoPermission { privilege: self.field("privilegeId").unwrap_or("a privilege").to_string() }
            }
            _ => Failure::Other,
        }
    }

    /// The meaning of a fault for the step that got it.
    pub fn outcome(&self) -> Outcome {
        match self.kind.as_str() {
            "AlreadyExists" => Outcome::AlreadyThere,
            "DuplicateName" => Outcome::NameTaken,
            kind => Outcome::Fault { kind: kind.into(), text: self.text.clone() },
        }
    }
}

/// A parsed reply.
pub struct Tree<'a> {
    document: Document<'a>,
}

impl<'a> Tree<'a> {
    /// Parses a reply, with its bounds checked.
    ///
    /// # Errors
    /// The text is not XML, breaks a bound, or is a SOAP fault.
    pub fn parse(text: &'a str) -> Result<Tree<'a>, SoapError> {
        if text.len() > REPLY_BYTES_MAX {
            return Err(SoapError::TooLong);
        }
        let options = ParsingOptions { allow_dtd: false, nodes_limit: REPLY_NODES_MAX, ..ParsingOptions::default() };
        let document = Document::parse_with_options(text, options).map_err(|e| match e {
            roxmltree::Error::DtdDetected => SoapError::Dtd,
            roxmltree::Error::NodesLimitReached => SoapError::TooManyNodes,
            other => SoapError::NotXml(shorten(&other.to_string())),
        })?;
        check_depth(&document)?;
        let tree = Tree { document };
        match tree.fault() {
            Some(fault) => Err(SoapError::Fault(fault)),
            None => Ok(tree),
        }
    }

    fn soap_body(&self) -> Option<Node<'_, 'a>> {
        let envelope = self.document.root_element();
        (envelope.tag_name().name() == "Envelope")
            .then_some(envelope)?
            .children()
            .find(|n| n.tag_name().name() == "Body")
    }

    fn fault(&self) -> Option<Fault> {
        let fault = child(self.soap_body()?, "Fault")?;
        let detail = child(fault, "detail").and_then(|d| d.children().find(Node::is_element));
        let by_name = |n: Node<'_, '_>| n.tag_name().name().trim_end_matches("Fault").to_string();
        let code = child(fault, "faultcode").and_then(|c| c.text()).unwrap_or("a fault").to_string();
        let kind = detail.map_or(code, |d| kind_of(d).map_or_else(|| by_name(d), str::to_string));
        let fields = detail.into_iter().flat_map(|d| d.children().filter(Node::is_element));
        let fields = fields.filter_map(|n| Some((n.tag_name().name().to_string(), shorten(n.text()?))));
        Some(Fault {
            kind: shorten(&kind),
            text: shorten(child_text(fault, "faultstring").unwrap_or_default()),
            fields: fields.take(8).collect(),
        })
    }

    /// The `returnval` elements of the reply, none for a call that returns nothing.
    ///
    /// # Errors
    /// The reply is no SOAP reply.
    pub fn returned(&self) -> Result<Vec<Node<'_, 'a>>, SoapError> {
        let body = self.soap_body().ok_or(SoapError::Lacks("a SOAP body"))?;
        let response = body.children().find(Node::is_element).ok_or(SoapError::Lacks("a response"))?;
        Ok(children(response, "returnval").collect())
    }

    /// The first value that the call returned.
    ///
    /// # Errors
    /// The reply has no `returnval`.
    pub fn returned_one(&self) -> Result<Node<'_, 'a>, SoapError> {
        self.returned()?.first().copied().ok_or(SoapError::Lacks("a returnval"))
    }
}

fn check_depth(document: &Document<'_>) -> Result<(), SoapError> {
    let mut depths: Vec<u8> = Vec::new();
    for node in document.root().descendants() {
        let depth = node.parent().map_or(0, |p| usize::from(depths[p.id().get_usize()]) + 1);
        if depth > REPLY_DEPTH_MAX {
            return Err(SoapError::TooDeep);
        }
        let index = node.id().get_usize();
        if depths.len() <= index {
            depths.resize(index + 1, 0);
        }
        depths[index] = depth as u8;
    }
    Ok(())
}

/// Foreign text in messages has an end.
pub(crate) fn shorten(text: &str) -> String {
    const CHARACTERS_MAX: usize = 200;
    let text = text.trim().replace(|c: char| c.is_control(), " ");
    match text.char_indices().nth(CHARACTERS_MAX) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

/// Child elements of this local name.
pub fn children<'a, 'i>(n: Node<'a, 'i>, name: &'a str) -> impl Iterator<Item = Node<'a, 'i>> {
    n.children().filter(move |c| c.is_element() && c.tag_name().name() == name)
}

/// The first child element of this local name.
pub fn child<'a, 'i>(n: Node<'a, 'i>, name: &str) -> Option<Node<'a, 'i>> {
    n.children().find(|c| c.is_element() && c.tag_name().name() == name)
}

/// Text of the first child element of this local name.
pub fn child_text<'a>(n: Node<'a, '_>, name: &str) -> Option<&'a str> {
    child(n, name)?.text()
}

/// The XML schema type of an element (`xsi:type`, whatever the prefix), without the prefix of its value.
pub fn kind_of<'a>(n: Node<'a, '_>) -> Option<&'a str> {
    let types = || n.attributes().filter(|a| a.name() == "type");
    let attribute = types().find(|a| a.namespace().is_some()).or_else(|| types().next())?;
    let value = attribute.value().rsplit(':').next()?;
    (!value.is_empty()).then_some(value)
}

/// The kind of object that a reference names: its plain `type` attribute. A reference that is a property's value has `xsi:type` beside it.
pub fn referred_kind<'a>(n: Node<'a, '_>) -> Option<&'a str> {
    let plain = n.attributes().find(|a| a.name() == "type" && a.namespace().is_none())?;
    (!plain.value().is_empty()).then(|| plain.value())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> SoapError {
        Tree::parse(text).err().unwrap()
    }

    const OPEN: &str = r#"<e:Envelope xmlns:e="http://schemas.xmlsoap.org/soap/envelope/"><e:Body>"#;

    #[test]
    fn what_could_hurt_is_refused_in_one_line() {
        assert!(matches!(error("garbage"), SoapError::NotXml(_)));
        assert!(matches!(error(""), SoapError::NotXml(_)));
        assert!(matches!(error(&format!("{OPEN}<LoginResponse><returnval>")), SoapError::NotXml(_)));
        let lol = r#"<!DOCTYPE l [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]><l>&b;</l>"#;
        assert_eq!(error(lol), SoapError::Dtd);
        let external = r#"<!DOCTYPE l SYSTEM "file:///etc/passwd"><l/>"#;
        assert_eq!(error(external), SoapError::Dtd);
        let deep = "<a>".repeat(1_000_000 / 3);
        assert!(matches!(error(&deep), SoapError::NotXml(_) | SoapError::TooDeep | SoapError::TooManyNodes));
        let deep = format!("{}{}", "<a>".repeat(100), "</a>".repeat(100));
        assert_eq!(error(&deep), SoapError::TooDeep);
        let wide = format!("<a>{}</a>", "<b/>".repeat(700_000));
        assert_eq!(error(&wide), SoapError::TooManyNodes);
        assert_eq!(error(&" ".repeat(REPLY_BYTES_MAX + 1)), SoapError::TooLong);
        let html = "<html><body>404</body></html>";
        assert_eq!(Tree::parse(html).unwrap().returned().unwrap_err(), SoapError::Lacks("a SOAP body"));
        for e in [error("garbage"), error(lol), error(&wide)] {
            assert!(!e.to_string().contains('\n'));
        }
    }

    #[test]
    fn a_fault_is_known_by_its_type_whatever_the_prefix() {
        let fault = |detail: &str| {
            format!(
                "{OPEN}<e:Fault><faultcode>ServerFaultCode</faultcode><faultstring/><detail>{detail}</detail></e:Fault></e:Body></e:Envelope>"
            )
        };
        let go = r#"<DuplicateNameFault xmlns:_XMLSchema-instance="http://www.w3.org/2001/XMLSchema-instance" _XMLSchema-instance:type="DuplicateName"><name>ds1</name><object type="Datastore">datastore-1</object></DuplicateNameFault>"#;
        let SoapError::Fault(f) = error(&fault(go)) else { panic!() };
        assert_eq!((f.kind.as_str(), f.field("name"), f.outcome()), ("DuplicateName", Some("ds1"), Outcome::NameTaken));
        let vc = r#"<NoPermissionFault xmlns="urn:vim25" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="vim25:NoPermission"><privilegeId>Host.Config.Storage</privilegeId></NoPermissionFault>"#;
        let SoapError::Fault(f) = error(&fault(vc)) else { panic!() };
        assert_eq!(f.failure(), Failure::NoPermission { privilege: "Host.Config.Storage".into() });
        assert_eq!(f.to_string(), "vCenter answers NoPermission (privilegeId Host.Config.Storage)");
        let SoapError::Fault(f) = error(&fault("<InvalidLoginFault/>")) else { panic!() };
        assert_eq!(f.failure(), Failure::InvalidLogin);
        let SoapError::Fault(f) = error(&fault("")) else { panic!() };
        assert_eq!(f.kind, "ServerFaultCode");
    }
}
