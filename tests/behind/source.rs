//! A client that does what a browser's `EventSource` does, its giving up too (WHATWG HTML, section 9.2).

use std::time::Duration;

use futures_util::StreamExt;
use reqwest::Client;
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::support::PATIENCE;
use crate::support::sse::{SseClient, SseEvent};

/// What comes to pass with a source.
#[derive(Debug)]
pub enum Happening {
    /// A message, or an event of the broker's own.
    Event(SseEvent),
    /// The stream ended or could not be had; it comes back after `retry`.
    Error,
    /// It gave up for good, at this status.
    Closed(u16),
}

/// One source; closed when dropped.
pub struct EventSource {
    happenings: UnboundedReceiver<Happening>,
    task: JoinHandle<()>,
}

impl EventSource {
    pub fn open(url: String) -> Self {
        let (sender, happenings) = unbounded_channel();
        Self { happenings, task: tokio::spawn(run(url, sender)) }
    }

    /// What happens next.
    pub async fn next(&mut self) -> Happening {
        let next = timeout(PATIENCE, self.happenings.recv()).await;
        next.expect("something happens in time").expect("the source runs")
    }

    /// The next event of a type, passing over errors and other events; it must not give up before.
    pub async fn until(&mut self, kind: &str) -> SseEvent {
        loop {
            match self.next().await {
                Happening::Event(event) if event.event == kind => return event,
                Happening::Closed(status) => panic!("it gave up at {status}, for good"),
                Happening::Event(_) | Happening::Error => {}
            }
        }
    }

    /// Waits until it has lost its stream, or could not get one, so many times more.
    pub async fn errors(&mut self, mut count: usize) {
        while count > 0 {
            match self.next().await {
                Happening::Error => count -= 1,
                Happening::Closed(status) => panic!("it gave up at {status}, for good"),
                Happening::Event(_) => {}
            }
        }
    }
}

impl Drop for EventSource {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn run(url: String, happened: UnboundedSender<Happening>) {
    let http = Client::new();
    let (mut retry, mut last_event_id) = (Duration::from_millis(500), String::new());
    loop {
        let mut request = http.get(&url).header(ACCEPT, "text/event-stream");
        if !last_event_id.is_empty() {
            request = request.header("last-event-id", &last_event_id);
        }
        if let Ok(response) = request.send().await {
            let is_stream = response.headers().get(CONTENT_TYPE);
            let is_stream = is_stream.is_some_and(|kind| kind == "text/event-stream");
            if response.status() != 200 || !is_stream {
                _ = happened.send(Happening::Closed(response.status().as_u16()));
                return;
            }
            let bytes =
                response.bytes_stream().take_while(|bytes| std::future::ready(bytes.is_ok()));
            let bytes = bytes.filter_map(|bytes| std::future::ready(bytes.ok()));
            let mut stream = SseClient::of(bytes);
            stream.last_event_id.clone_from(&last_event_id);
            while let Some(event) = stream.next().await {
                last_event_id.clone_from(&event.id);
                _ = happened.send(Happening::Event(event));
            }
            last_event_id = stream.last_event_id;
            retry = stream.retry.map_or(retry, Duration::from_millis);
        }
        if happened.send(Happening::Error).is_err() {
            return;
        }
        sleep(retry).await;
    }
}
