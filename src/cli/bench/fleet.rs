//! All connections that listen, on their threads.
//!
//! Connections are opened a few at a time, for a server that is to be measured must not be drowned
//! first. They stay until the fleet is dropped.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime;
use tokio::sync::{Semaphore, watch};
use tokio::task::LocalSet;
use tokio::time::{Instant, sleep};

use super::audience::{Audience, Seat};
use super::clock::{Clock, Markers};
use super::dialect::Dialect;
use super::meter::{Meter, SharedMeter};
use super::socket::Sources;
use super::subscriber::{Listening, Subscriber};
use super::target::Target;

/// Connections of one thread that may be on their way at a time.
const OPENING: usize = 64;
/// The buffer that all connections of a thread read into.
const BUFFER: usize = 64 << 10;
/// How long no connection may get any further while the fleet opens.
const PATIENCE: Duration = Duration::from_secs(20);

/// How a fleet is set up.
pub struct Fitting {
    /// How the server is spoken to.
    pub dialect: Arc<dyn Dialect>,
    /// Where it is.
    pub target: Target,
    /// Where connections come from.
    pub sources: Sources,
    /// The time.
    pub clock: Clock,
    /// How many bytes a second a slow connection reads.
    pub slow_pace: usize,
    /// On how many threads the connections live.
    pub threads: usize,
}

/// Connections that listen.
pub struct Fleet {
    meters: Vec<SharedMeter>,
    threads: Vec<JoinHandle<()>>,
    stop: watch::Sender<bool>,
    size: usize,
}

impl Fleet {
    /// Begins to open all connections of an audience.
    pub fn launch(fitting: &Arc<Fitting>, audience: &Arc<Audience>) -> Result<Self, String> {
        let (stop, stopped) = watch::channel(false);
        let size = audience.seats.len();
        let mut fleet = Self { meters: Vec::new(), threads: Vec::new(), stop, size };
        let threads = fitting.threads.min(size);
        for place in 0..threads {
            let share = (size - place).div_ceil(threads);
            let meter = SharedMeter::new(share)?;
            fleet.meters.push(meter.clone());
            let crew = Crew { fitting: fitting.clone(), audience: audience.clone(), place, meter };
            let stopped = stopped.clone();
            let thread = std::thread::Builder::new()
                .name(format!("subscribers {place}"))
                .spawn(move || crew.serve(stopped))
                .map_err(|error| format!("can't start a thread: {error}"))?;
            fleet.threads.push(thread);
        }
        Ok(fleet)
    }

    /// Waits until all are live; `seen` is told how many are.
    pub async fn live(&self, seen: impl Fn(usize)) -> Result<(), String> {
        let mut before = 0;
        let mut give_up = Instant::now() + PATIENCE;
        loop {
            let live = self.sum(|meter| meter.live as u64) as usize;
            seen(live);
            if let Some(reason) = self.ended_because() {
                return Err(format!("{live} of {} connections are live: {reason}", self.size));
            }
            if live == self.size {
                return Ok(());
            }
            if live > before {
                before = live;
                give_up = Instant::now() + PATIENCE;
            } else if Instant::now() > give_up {
                return Err(format!("only {live} of {} connections became live", self.size));
            }
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// How many connections there are to be.
    pub fn size(&self) -> usize {
        self.size
    }

    /// The sum of something over all threads.
    pub fn sum(&self, of: impl Fn(&Meter) -> u64) -> u64 {
        self.meters.iter().map(|meter| of(&meter.lock())).sum()
    }

    /// Does something to the meter of each thread.
    pub fn each(&self, mut act: impl FnMut(&mut Meter)) {
        self.meters.iter().for_each(|meter| act(&mut meter.lock()));
    }

    /// Why the first connection ended, if one has.
    pub fn ended_because(&self) -> Option<String> {
        self.meters.iter().find_map(|meter| meter.lock().reason.clone())
    }

    /// The events that each connection got, by its place among all.
    pub fn received(&self) -> Vec<u64> {
        let by_thread: Vec<_> =
            self.meters.iter().map(|meter| meter.lock().received.clone()).collect();
        let threads = by_thread.len().max(1);
        (0..self.size).map(|number| by_thread[number % threads][number / threads]).collect()
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        _ = self.stop.send(true);
        for thread in self.threads.drain(..) {
            // A thread that panicked has said so, and its connections are missed.
            _ = thread.join();
        }
    }
}

/// The connections of one thread: every n-th seat of n threads.
struct Crew {
    fitting: Arc<Fitting>,
    audience: Arc<Audience>,
    place: usize,
    meter: SharedMeter,
}

impl Crew {
    fn serve(self, mut stopped: watch::Receiver<bool>) {
        let runtime = match runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => {
                let mut meter = self.meter.lock();
                meter.ended += 1;
                meter.reason = Some(format!("can't start a runtime: {error}"));
                return;
            }
        };
        LocalSet::new().block_on(&runtime, async {
            tokio::select! {
                () = self.open() => {}
                _ = stopped.wait_for(|stopped| *stopped) => return,
            }
            _ = stopped.wait_for(|stopped| *stopped).await;
        });
    }

    async fn open(&self) {
        let fitting = &self.fitting;
        let listening = Rc::new(Listening {
            dialect: fitting.dialect.clone(),
            target: fitting.target.clone(),
            sources: fitting.sources,
            clock: fitting.clock,
            meter: self.meter.clone(),
            slow_pace: fitting.slow_pace,
            buffer: RefCell::new(vec![0; BUFFER].into()),
            markers: Markers::default(),
        });
        let permits = Arc::new(Semaphore::new(OPENING));
        for (seat, (number, of)) in self.seats().enumerate() {
            let Ok(permit) = permits.clone().acquire_owned().await else { return };
            let subscriber = Subscriber {
                listening: listening.clone(),
                seat,
                number,
                topics: self.audience.names(of),
                slow: of.slow,
            };
            tokio::task::spawn_local(subscriber.run(permit));
        }
    }

    fn seats(&self) -> impl Iterator<Item = (usize, &Seat)> {
        let threads = self.fitting.threads.min(self.audience.seats.len());
        self.audience.seats.iter().enumerate().skip(self.place).step_by(threads)
    }
}
