//! New certificates without a restart: the files are looked at again and again.

use super::{Context, StoreFile};
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// Time between two checks of the certificates' files.
const LOOK: Duration = Duration::from_secs(2);

/// A file's marks, by which a changed one is noticed: its identity, length and time.
type Seen = Vec<Option<(u64, u64, i64, i64)>>;

fn look(context: &Context) -> Seen {
    let of = |file: &StoreFile| {
        let m = std::fs::metadata(&file.path).ok()?;
        Some((m.ino(), m.size(), m.mtime(), m.mtime_nsec()))
    };
    let files = context.settings().map(|s| std::iter::once(&s.key_store).chain(&s.trust_store));
    files.into_iter().flatten().map(of).collect()
}

/// Reads a context's files again when they change, on a thread of its own that ends with the context. What was in use stays
/// while the new files cannot be used (a key without its certificate yet, say).
pub(in crate::coordination) fn keep_current(context: &Arc<Context>) -> std::io::Result<()> {
    if !context.settings().is_some_and(|settings| settings.reload) {
        return Ok(());
    }
    let mut seen = look(context);
    let weak: Weak<Context> = Arc::downgrade(context);
    let work = move || loop {
        std::thread::sleep(LOOK);
        let Some(context) = weak.upgrade() else { return };
        let now = look(&context);
        if now == seen {
            continue;
        }
        match context.reload() {
            Ok(()) => {
                let (serial, not_after) = context.own_certificate();
                tracing::info!(%serial, not_after, "new certificates are in use");
            }
            Err(e) => tracing::warn!(error = %e, "new certificates cannot be used; those from before stay in use"),
        }
        seen = now;
    };
    std::thread::Builder::new().name("certificates".into()).spawn(work).map(drop)
}
