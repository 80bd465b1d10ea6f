//! What the machine does right now.
//!
//! Rates are measured between one sample and the next. Each sample says when it was taken, for it
//! may reach the broker much later, and has a running number, by which a missing one would show.

use std::collections::HashSet;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use sysinfo::{DiskRefreshKind, Disks, Networks, System};

use crate::outbox::Batch;

/// One look at the machine.
#[derive(Debug)]
pub struct Sample {
    run: u64,
    sample: u64,
    at: u64,
    cpu: Value,
    memory: Value,
    network: Value,
    disk: Value,
}

impl Sample {
    /// The sample as events of the topics `host.{name}.*`.
    pub fn to_batch(&self, name: &str) -> Batch {
        let event = |part: &str, data: &Value| {
            let mut data = data.clone();
            data["at"] = self.at.into();
            data["sample"] = self.sample.into();
            json!({ "topic": format!("host.{name}.{part}"), "type": "sample", "data": data })
        };
        let events = [
            event("cpu", &self.cpu),
            event("memory", &self.memory),
            event("network", &self.network),
            event("disk", &self.disk),
        ];
        Batch {
            idempotency_key: format!("host-dashboard-{:016x}-{}", self.run, self.sample),
            body: json!({ "events": events }).to_string(),
        }
    }
}

/// Looks at the machine, and remembers what rates are measured from.
pub struct Sampler {
    system: System,
    networks: Networks,
    disks: Disks,
    /// Tells the samples of this run of the program from those of another.
    run: u64,
    taken: u64,
    looked_at: Instant,
}

impl Sampler {
    /// A sampler that begins to measure now.
    pub fn new() -> Self {
        let mut system = System::new();
        system.refresh_cpu_usage();
        Self {
            system,
            networks: Networks::new_with_refreshed_list(),
            disks: Disks::new_with_refreshed_list_specifics(disk_parts()),
            run: rand::random(),
            taken: 0,
            looked_at: Instant::now(),
        }
    }

    /// The state of the machine now, and its rates since the last call.
    pub fn sample(&mut self) -> Sample {
        self.system.refresh_cpu_usage();
        self.system.refresh_memory();
        self.networks.refresh(true);
        self.disks.refresh_specifics(true, disk_parts());
        let seconds = self.looked_at.elapsed().as_secs_f64().max(0.001);
        self.looked_at = Instant::now();
        self.taken += 1;
        Sample {
            run: self.run,
            sample: self.taken,
            at: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64,
            cpu: self.cpu(),
            memory: self.memory(),
            network: self.network(seconds),
            disk: self.disk(seconds),
        }
    }

    /// Percent, in all and for each core.
    fn cpu(&self) -> Value {
        let percent = |usage: f32| (f64::from(usage) * 10.0).round() / 10.0;
        let cores: Vec<f64> =
            self.system.cpus().iter().map(|cpu| percent(cpu.cpu_usage())).collect();
        json!({ "total": percent(self.system.global_cpu_usage()), "cores": cores })
    }

    /// Bytes.
    fn memory(&self) -> Value {
        json!({
            "used": self.system.used_memory(),
            "total": self.system.total_memory(),
            "swap_used": self.system.used_swap(),
            "swap_total": self.system.total_swap(),
        })
    }

    /// Bytes a second, over all interfaces but the loopback.
    fn network(&self, seconds: f64) -> Value {
        let outside = || {
            self.networks.iter().filter(|(name, _)| !name.starts_with("lo")).map(|(_, data)| data)
        };
        json!({
            "in": per_second(outside().map(|data| data.received()).sum(), seconds),
            "out": per_second(outside().map(|data| data.transmitted()).sum(), seconds),
        })
    }

    /// Bytes, and bytes a second; a device that is mounted twice counts once.
    fn disk(&self, seconds: f64) -> Value {
        let mut seen = HashSet::new();
        let devices: Vec<_> = self.disks.iter().filter(|disk| seen.insert(disk.name())).collect();
        let total: u64 = devices.iter().map(|disk| disk.total_space()).sum();
        let free: u64 = devices.iter().map(|disk| disk.available_space()).sum();
        json!({
            "used": total.saturating_sub(free),
            "total": total,
            "read": per_second(devices.iter().map(|disk| disk.usage().read_bytes).sum(), seconds),
            "write": per_second(devices.iter().map(|disk| disk.usage().written_bytes).sum(), seconds),
        })
    }
}

/// This machine's own name, where it has one.
pub fn host_name() -> String {
    System::host_name().unwrap_or_default()
}

fn disk_parts() -> DiskRefreshKind {
    DiskRefreshKind::nothing().with_storage().with_io_usage()
}

fn per_second(bytes: u64, seconds: f64) -> u64 {
    (bytes as f64 / seconds).round() as u64
}
