//! Whether connections that nothing happens on are cut by what stands between.
//!
//! A broker sends something each heartbeat, so it takes a time-out below that to cut one, and it takes as long
//! to see it: only done where it is asked for.

use std::time::Duration;

use actix_web::http::StatusCode;
use awc::ws::{Frame, Message};
use futures_util::future::join;
use futures_util::{SinkExt, StreamExt};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::report::Verdict::{self, Good, Unseen, Wrong};
use super::visitor::{PATIENCE, Visitor};

/// Leaves an event stream and a WebSocket idle, both at a time.
pub(super) async fn look(
    visitor: &Visitor,
    time: Option<Duration>,
) -> Vec<(&'static str, Verdict)> {
    let Some(time) = time else {
        return vec![(
            "idle",
            Unseen("give --idle 120 to see what cuts idle connections".to_owned()),
        )];
    };
    let bar = progress(time);
    let ticking = async {
        loop {
            sleep(Duration::from_secs(1)).await;
            bar.inc(1);
        }
    };
    let both = join(event_stream(visitor, time), websocket(visitor, time));
    let (stream, socket) = tokio::select! {
        verdicts = both => verdicts,
        () = ticking => return Vec::new(),
    };
    bar.finish_and_clear();
    vec![("idle stream", stream), ("idle socket", socket)]
}

/// The seconds so far, where someone is watching.
fn progress(time: Duration) -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} idle for {pos} of {len} s");
    ProgressBar::new(time.as_secs())
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()))
}

fn stayed(time: Duration) -> Verdict {
    Good(format!("nothing cut it within {time:?}"))
}

fn cut(began: Instant, how: &str) -> Verdict {
    Wrong(format!(
        "cut after {:.0} s ({how}): what stands between has a time-out that is shorter than the broker's \
         heartbeat (server.heartbeat, 25 s by default); nginx: proxy_read_timeout 1h, proxy_send_timeout 1h",
        began.elapsed().as_secs_f32()
    ))
}

async fn event_stream(visitor: &Visitor, time: Duration) -> Verdict {
    let mut answer = match timeout(PATIENCE, visitor.stream_request().send()).await {
        Ok(Ok(answer)) if answer.status() == StatusCode::OK => answer,
        Ok(Ok(answer)) => return visitor.refused(answer.status()).await,
        Ok(Err(error)) => return Wrong(visitor.remote.why(&error).await.to_string()),
        Err(_) => return Wrong(format!("it does not begin within {PATIENCE:?}")),
    };
    let began = Instant::now();
    let until = began + time;
    loop {
        match timeout_at(until, answer.next()).await {
            Err(_) => return stayed(time),
            Ok(Some(Ok(_))) => {}
            Ok(Some(Err(error))) => return cut(began, &error.to_string()),
            Ok(None) => return cut(began, "it ended"),
        }
    }
}

async fn websocket(visitor: &Visitor, time: Duration) -> Verdict {
    let request = visitor.remote.websocket("/v1/ws").origin(visitor.origin.as_str());
    let mut socket = match timeout(PATIENCE, request.connect()).await {
        Ok(Ok((_, socket))) => socket,
        Ok(Err(error)) => return Unseen(format!("it does not open: {error}")),
        Err(_) => return Unseen(format!("it does not open within {PATIENCE:?}")),
    };
    if let Err(error) = visitor.introduce(&mut socket).await {
        return Unseen(format!("it does not take the token: {error}"));
    }
    let began = Instant::now();
    let until = began + time;
    loop {
        match timeout_at(until, socket.next()).await {
            Err(_) => return stayed(time),
            // As a browser does, and no more than that.
            Ok(Some(Ok(Frame::Ping(payload)))) => _ = socket.send(Message::Pong(payload)).await,
            Ok(Some(Ok(Frame::Close(reason)))) => {
                let code = reason.map_or(1005, |reason| u16::from(reason.code));
                return Unseen(format!("the broker closed it with {code}; set FANFARE_TOKEN"));
            }
            Ok(Some(Ok(_))) => {}
            Ok(Some(Err(error))) => return cut(began, &error.to_string()),
            Ok(None) => return cut(began, "it ended"),
        }
    }
}
