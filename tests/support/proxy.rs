//! A network between a node and Redis that can be cut, both ways or one way.

use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::time::sleep;

/// Passes bytes on, and holds them back while cut, as a network does that sends them again later.
pub struct Proxy {
    pub port: u16,
    target: Arc<AtomicU16>,
    cuts: Arc<Cuts>,
}

#[derive(Default)]
struct Cuts {
    to_redis: AtomicBool,
    from_redis: AtomicBool,
    /// The word with which an answer cuts what comes from Redis.
    word: Mutex<Option<&'static str>>,
    met: Notify,
}

impl Cuts {
    /// Cuts at an answer that has the word.
    fn look_at(&self, answer: &[u8]) {
        let mut word = self.word.lock().expect("no panic");
        let has = |word: &str| answer.windows(word.len()).any(|part| part == word.as_bytes());
        if word.take_if(|word| has(word)).is_some() {
            self.from_redis.store(true, Ordering::Relaxed);
            self.met.notify_one();
        }
    }
}

impl Proxy {
    /// A network to a port of this machine.
    pub async fn to(target: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("its address").port();
        let cuts = Arc::new(Cuts::default());
        let target = Arc::new(AtomicU16::new(target));
        let (shared, leads_to) = (cuts.clone(), target.clone());
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let target = leads_to.load(Ordering::Relaxed);
                let Ok(far) = TcpStream::connect(("127.0.0.1", target)).await else { continue };
                near.set_nodelay(true).expect("a socket");
                far.set_nodelay(true).expect("a socket");
                let ((near_in, near_out), (far_in, far_out)) =
                    (near.into_split(), far.into_split());
                tokio::spawn(pump(
                    near_in,
                    far_out,
                    shared.clone(),
                    |cuts| &cuts.to_redis,
                    |_, _| (),
                ));
                tokio::spawn(pump(
                    far_in,
                    near_out,
                    shared.clone(),
                    |cuts| &cuts.from_redis,
                    Cuts::look_at,
                ));
            }
        });
        Self { port, target, cuts }
    }

    /// What tells a node of the Redis behind it.
    pub fn settings(&self) -> Vec<String> {
        vec![format!("redis.url=redis://127.0.0.1:{}", self.port)]
    }

    /// Leads new connections to another port.
    pub fn lead_to(&self, target: u16) {
        self.target.store(target, Ordering::Relaxed);
    }

    /// Cuts what comes from Redis from the next answer on that has this word; `cut_off` tells of it.
    pub fn cut_at(&self, word: &'static str) {
        *self.cuts.word.lock().expect("no panic") = Some(word);
    }

    pub async fn cut_off(&self) {
        self.cuts.met.notified().await;
    }

    pub fn cut(&self, to_redis: bool, from_redis: bool) {
        self.cuts.to_redis.store(to_redis, Ordering::Relaxed);
        self.cuts.from_redis.store(from_redis, Ordering::Relaxed);
    }
}

async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    cuts: Arc<Cuts>,
    way: fn(&Cuts) -> &AtomicBool,
    look: fn(&Cuts, &[u8]),
) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let Ok(count @ 1..) = from.read(&mut buffer).await else { return };
        look(&cuts, &buffer[..count]);
        while way(&cuts).load(Ordering::Relaxed) {
            sleep(Duration::from_millis(10)).await;
        }
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}
