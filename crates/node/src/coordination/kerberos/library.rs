//! MIT's library of Kerberos (libgssapi_krb5). Its safe wrapper has no call that names a keytab, but the environment of the
//! whole process: that one call is made here.

use libgssapi::context::{SecurityContext, ServerCtx};
use libgssapi::credential::Cred;
use libgssapi::error::{Error, MajorFlags};
use libgssapi_sys as sys;
use std::ffi::CString;
use std::path::Path;
use std::ptr::null_mut;
use trivet_security::gssapi::{Accepted, Acceptor};

/// GSS_KRB5_NT_PRINCIPAL_NAME, 1.2.840.113554.1.2.2.1.
static PRINCIPAL_NAME: [u8; 10] = *b"\x2a\x86\x48\x86\xf7\x12\x01\x02\x02\x01";
/// The mechanism Kerberos 5, 1.2.840.113554.1.2.2.
static KRB5: [u8; 9] = *b"\x2a\x86\x48\x86\xf7\x12\x01\x02\x02";

fn oid(bytes: &'static [u8]) -> sys::gss_OID_desc {
    // The library reads it only.
    sys::gss_OID_desc { length: bytes.len() as sys::OM_uint32, elements: bytes.as_ptr().cast_mut().cast() }
}

fn done(major: u32, minor: u32) -> Result<(), Error> {
    if major == 0 {
        return Ok(());
    }
    Err(Error { major: MajorFlags::from_bits_retain(major), minor })
}

/// A principal's name in the library's form, released at its end.
struct Name(sys::gss_name_t);

impl Name {
    fn of_principal(principal: &str) -> Result<Name, Error> {
        let mut name = Name(null_mut());
        let mut text =
            sys::gss_buffer_desc { length: principal.len() as _, value: principal.as_ptr().cast_mut().cast() };
        let (mut minor, mut kind) = (0, oid(&PRINCIPAL_NAME));
        // SAFETY: all pointers are to live locals; the library copies the text and the kind.
        let major = unsafe { sys::gss_import_name(&mut minor, &mut text, &mut kind, &mut name.0) };
        done(major, minor).map(|()| name)
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        let mut minor = 0;
        // SAFETY: the name is this struct's alone; an empty one is left alone.
        unsafe { sys::gss_release_name(&mut minor, &mut self.0) };
    }
}

/// The key of a principal.
pub(super) struct Credentials(Cred);

impl Credentials {
    /// The key and its realm.
    pub(super) fn acquire(keytab: &Path, principal: &str) -> Result<(Credentials, String), String> {
        let shown = keytab.display();
        if let Err(e) = std::fs::File::open(keytab) {
            return Err(format!("the keytab {shown} cannot be read: {e}"));
        }
        let found = of_keytab(keytab, principal);
        let cred = found.map_err(|e| {
            format!("the keytab {shown} has no key of {principal}: {e}; `klist -k {shown}` lists those that it has")
        })?;
        let name = cred.name().and_then(|n| n.display_name()).map_err(|e| e.to_string())?;
        let name = String::from_utf8_lossy(&name).into_owned();
        let realm = name.rsplit_once('@').map_or("", |(_, realm)| realm).to_string();
        Ok((Credentials(cred), realm))
    }

    pub(super) fn context(&self) -> Context {
        Context(ServerCtx::new(Some(self.0.clone())))
    }
}

fn of_keytab(keytab: &Path, principal: &str) -> Result<Cred, Error> {
    let name = Name::of_principal(principal)?;
    let path = CString::new(format!("FILE:{}", keytab.display()).into_bytes()).unwrap_or_default();
    let mut place = sys::gss_key_value_element_desc { key: c"keytab".as_ptr(), value: path.as_ptr() };
    let store = sys::gss_key_value_set_desc { count: 1, elements: &mut place };
    let mut kerberos = oid(&KRB5);
    let mut mechanisms = sys::gss_OID_set_desc { count: 1, elements: &mut kerberos };
    let (mut minor, mut cred) = (0, null_mut());
    // SAFETY: all pointers are to live locals, which the library reads and does not keep; `cred` becomes the wrapper's.
    unsafe {
        let major = sys::gss_acquire_cred_from(
            &mut minor,
            name.0,
            sys::_GSS_C_INDEFINITE,
            &mut mechanisms,
            sys::GSS_C_ACCEPT as _,
            &store,
            &mut cred,
            null_mut(),
            null_mut(),
        );
        done(major, minor).map(|()| Cred::from_c(cred))
    }
}

/// A client's context.
pub(super) struct Context(ServerCtx);

fn words(e: Error) -> String {
    e.to_string()
}

impl Acceptor for Context {
    fn accept(&mut self, token: &[u8]) -> Result<Accepted, String> {
        let token = self.0.step(token, None).map_err(words)?.map(|t| t.to_vec());
        let peer = match self.0.is_complete() {
            true => {
                let name = self.0.source_name().and_then(|n| n.display_name()).map_err(words)?;
                Some(String::from_utf8_lossy(&name).into_owned())
            }
            false => None,
        };
        Ok(Accepted { token, peer })
    }
    fn wrap(&mut self, message: &[u8]) -> Result<Vec<u8>, String> {
        self.0.wrap(false, message).map(|m| m.to_vec()).map_err(words)
    }
    fn unwrap(&mut self, message: &[u8]) -> Result<Vec<u8>, String> {
        self.0.unwrap(message).map(|m| m.to_vec()).map_err(words)
    }
}
