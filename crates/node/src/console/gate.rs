//! Checks of every request: its Host header and user, and headers that restrict what browsers do with the answer.

use super::accounts::{Role, User, KEY_HOLDER};
use super::{App, Context, Peer};
use axum::extract::{ConnectInfo, FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{header, HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};
use std::net::IpAddr;
use std::sync::Arc;
use trivet_observe::Language;

pub const SESSION_COOKIE: &str = "trivet_session";
/// The user of a program that signed a request with the cluster's key.
pub const BY_HEADER: &str = "x-trivet-by";
const LANGUAGE_COOKIE: &str = "trivet_language";
const POLICY: &str =
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; connect-src 'self'; \
                      form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

/// The caller; `None`: nobody who is known.
#[derive(Clone)]
struct Asker(Option<User>);

pub fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let all = headers.get_all(header::COOKIE).iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(';'));
    all.filter_map(|c| c.trim().split_once('=')).find(|(n, _)| *n == name).map(|(_, v)| v)
}

/// A page of somebody else whose name leads here must not read what is ours: only addresses and this machine's own
/// names are names of this console.
fn is_own_host(host: &str) -> bool {
    let name = if let Some(v6) = host.strip_prefix('[') {
        v6.split(']').next().unwrap_or_default()
    } else {
        host.rsplit_once(':').map_or(host, |(name, _)| name)
    };
    let machine = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let machine = machine.trim();
    name.parse::<IpAddr>().is_ok()
        || name.eq_ignore_ascii_case("localhost")
        || !machine.is_empty()
            && (name.eq_ignore_ascii_case(machine)
                || machine.split('.').next().is_some_and(|short| name.eq_ignore_ascii_case(short)))
}

/// Pages that need no sign-in: liveness and readiness, and the sign-in page itself.
fn is_public(path: &str) -> bool {
    matches!(path, "/healthz" | "/livez" | "/readyz" | "/login" | "/language") || path.starts_with("/assets/")
}

pub async fn check(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let headers = request.headers();
    let host = headers.get(header::HOST).and_then(|h| h.to_str().ok()).unwrap_or_default();
    if !is_own_host(host) {
        return harden((StatusCode::MISDIRECTED_REQUEST, "this console is not known by that name\n").into_response());
    }
    let now = crate::clock::wall_ms();
    let target = request.uri().path_and_query().map_or("/", |p| p.as_str());
    let header = headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok());
    let is_tls = request.extensions().get::<ConnectInfo<Peer>>().is_some_and(|c| c.0.is_tls());
    if app.certificates.is_some() && !app.local && !is_tls && header.is_none() {
        // Passwords and sessions of people do not travel in the clear. Programs say with each request who they are.
        let answer = match request.uri().path() {
            "/healthz" | "/livez" | "/readyz" => None,
            _ if request.method() != Method::GET => {
                Some((StatusCode::FORBIDDEN, format!("use https://{host}\n")).into_response())
            }
            _ => Some(Redirect::permanent(&format!("https://{host}{target}")).into_response()),
        };
        if let Some(answer) = answer {
            return harden(answer);
        }
    }
    let by_header = header.and_then(|h| app.accounts.of_header(now, h, request.method().as_str(), target));
    let by_session = || cookie(headers, SESSION_COOKIE).and_then(|c| app.accounts.of_session(now, c));
    // A header that is wrong is no reason to look further.
    let user = if header.is_some() { by_header } else { by_session() };
    let local = || app.local.then(|| User { name: "local".into(), role: Role::Viewer, signed_in: false });
    let user = user.or_else(local);
    let path = request.uri().path();
    if user.is_none() && !is_public(path) {
        let page = request.method() == Method::GET
            && !path.starts_with("/api/")
            && !path.ends_with(".json")
            && path != "/metrics";
        return harden(if page {
            Redirect::to("/login").into_response()
        } else {
            let how = [(header::WWW_AUTHENTICATE, "Bearer realm=\"trivet\"")];
            (StatusCode::UNAUTHORIZED, how, "sign in, or send a token\n").into_response()
        });
    }
    // A browser says where a form comes from; other programs say nothing.
    let site = headers.get("sec-fetch-site").and_then(|v| v.to_str().ok());
    let foreign = site.is_some_and(|s| s != "same-origin" && s != "none");
    if request.method() != Method::GET && request.method() != Method::HEAD && foreign {
        return harden((StatusCode::FORBIDDEN, "this form comes from another site\n").into_response());
    }
    request.extensions_mut().insert(Asker(user));
    harden(next.run(request).await)
}

fn harden(mut response: Response) -> Response {
    let h = response.headers_mut();
    h.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    h.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    h.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    h.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    h.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

impl FromRequestParts<Arc<App>> for Context {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Context, Self::Rejection> {
        let tag = |name: header::HeaderName| parts.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let language = match cookie(&parts.headers, LANGUAGE_COOKIE) {
            Some(chosen) => Language::of_tag(chosen),
            None => Language::of_tag(tag(header::ACCEPT_LANGUAGE)),
        };
        let cookie = cookie(&parts.headers, SESSION_COOKIE).unwrap_or_default().to_string();
        Ok(Context {
            language,
            user: parts.extensions.get::<Asker>().and_then(|a| a.0.clone()),
            path: parts.uri.path().to_string(),
            cluster: app.monitor.sources.config.cluster.clone(),
            node: app.monitor.sources.config.node,
            from: parts.extensions.get::<ConnectInfo<Peer>>().map(|c| c.0 .0.ip()),
            by: parts.headers.get(BY_HEADER).and_then(|v| v.to_str().ok()).map(crate::audit::bounded),
            form_code: app.accounts.form_code(&cookie),
            cookie,
        })
    }
}

impl Context {
    /// Whether the user may make this change: by role, and with a form that came from a page of this console.
    ///
    /// # Errors
    /// An answer that says why the user may not.
    pub fn allow(&self, app: &App, role: Role, form_code: &str) -> Result<String, Response> {
        let Some(user) = &self.user else {
            return Err((StatusCode::UNAUTHORIZED, "sign in first\n").into_response());
        };
        if user.role < role {
            return Err((StatusCode::FORBIDDEN, format!("this takes the role {}\n", role.name())).into_response());
        }
        if user.signed_in && !app.accounts.is_form_code(&self.cookie, form_code) {
            return Err((StatusCode::FORBIDDEN, "this form is out of date: load the page again\n").into_response());
        }
        Ok(match &self.by {
            // The header counts where the cluster's key signed the request.
            Some(by) if user.name == KEY_HOLDER && !user.signed_in => format!("{by} {KEY_HOLDER}"),
            _ => user.name.clone(),
        })
    }
}

/// `secure`: the browser sends it back by TLS only.
pub fn set_cookie(name: &str, value: &str, seconds: i64, script: bool, secure: bool) -> String {
    let hidden = if script { "" } else { "; HttpOnly" };
    let secure = if secure { "; Secure" } else { "" };
    format!("{name}={value}; Path=/; Max-Age={seconds}; SameSite=Lax{hidden}{secure}")
}

pub fn language_cookie(tag: &str) -> String {
    let known = if Language::of_tag(tag) == Language::Zh { "zh" } else { "en" };
    set_cookie(LANGUAGE_COOKIE, known, 31_536_000, true, false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_somebody_else_points_here_is_not_ours() {
        for own in ["127.0.0.1:8088", "10.0.0.5", "[::1]:8088", "localhost:80", "LOCALHOST"] {
            assert!(is_own_host(own), "{own}");
        }
        for foreign in ["evil.example", "evil.example:8088", "127.0.0.1.evil.example", ""] {
            assert!(!is_own_host(foreign), "{foreign}");
        }
    }

    #[test]
    fn cookies_are_found_among_others() {
        let mut h = HeaderMap::new();
        h.insert(header::COOKIE, HeaderValue::from_static("a=1; trivet_session=x.y.z; b=2"));
        assert_eq!(cookie(&h, SESSION_COOKIE), Some("x.y.z"));
        assert_eq!(cookie(&h, "session"), None);
    }
}
