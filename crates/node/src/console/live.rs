//! Tells pages that are open when the node has looked at the cluster again.

use super::App;
use axum::extract::State;
use axum::response::sse::{Event, Sse};
use futures_util::stream::{self, Stream};
use std::convert::Infallible;
use std::sync::Arc;

/// Ends with its connection, which lives no longer than any other of the console; browsers come again.
pub async fn stream(State(app): State<Arc<App>>) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let looks = app.monitor.looks();
    Sse::new(stream::unfold(looks, |mut looks| async move {
        looks.changed().await.ok()?;
        let n = *looks.borrow_and_update();
        Some((Ok(Event::default().event("look").data(n.to_string())), looks))
    }))
}
