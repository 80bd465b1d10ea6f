//! The systems that are compared: how each is found on this machine, configured and started.
//!
//! Each runs as one would run it in production: a thread or process for each processor where it can
//! have them, no debug log, history in memory where it has one, and no limit that the work meets.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use fanfare::cli::bench::{Dialect, HerdKind, Native, Protocol, Target};

use super::certificate::Certificate;
use super::dialects::{Centrifugo, Mercure, Nats, Nchan, Pusher, SocketIo, Ws};
use super::works::{Storage, Work};

/// Every system, in the order of the table.
pub const PEERS: &[Peer] = &[
    Peer { name: "fanfare", prepare: fanfare },
    Peer { name: "limit", prepare: limit },
    Peer { name: "nchan", prepare: nchan },
    Peer { name: "nats-server", prepare: nats },
    Peer { name: "mercure", prepare: mercure },
    Peer { name: "centrifugo", prepare: centrifugo },
    Peer { name: "sockudo", prepare: sockudo },
    Peer { name: "soketi", prepare: soketi },
    Peer { name: "socket.io", prepare: socketio },
    Peer { name: "ws", prepare: ws },
];

/// A system that can be measured.
pub struct Peer {
    /// Its name in tables.
    pub name: &'static str,
    /// Makes it ready to be started for a work, or says why it can't be.
    pub prepare: fn(&Work, &Place) -> Result<Setup, String>,
}

/// Where a system may live while it is measured.
pub struct Place {
    /// A directory of its own, which is there and empty.
    pub directory: PathBuf,
    /// Free ports.
    pub ports: [u16; 4],
    /// What it serves TLS with, if it is to.
    pub certificate: Option<Certificate>,
}

/// Which port is that of the store, where there is one.
pub const STORE: usize = 3;

/// A system ready to be started.
pub struct Setup {
    /// What starts it.
    pub command: Command,
    /// What starts its other nodes, where subscribers find those.
    pub others: Vec<Command>,
    /// What starts the store behind them.
    pub store: Option<Command>,
    /// Where subscribers find it.
    pub target: Target,
    /// Where publishers do.
    pub publish_to: Target,
    /// How it is spoken to.
    pub dialect: Arc<dyn Dialect>,
    /// What it needs once it runs.
    pub ready: Box<dyn FnOnce() -> Result<(), String>>,
}

impl Place {
    /// The address of one of its ports.
    pub fn address(&self, port: usize) -> SocketAddr {
        ([127, 0, 0, 1], self.ports[port]).into()
    }

    fn target(&self) -> Target {
        let target = Target::at(self.address(0));
        let tls = self.certificate.as_ref().map(|certificate| certificate.secured.clone());
        Target { tls, ..target }
    }

    fn write(&self, name: &str, text: &str) -> Result<PathBuf, String> {
        let path = self.directory.join(name);
        fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(path)
    }

    fn setup(&self, command: Command, dialect: impl Dialect + 'static) -> Result<Setup, String> {
        let (target, publish_to) = (self.target(), self.target());
        let (others, store, ready) = (Vec::new(), None, Box::new(|| Ok(())));
        Ok(Setup { command, others, store, target, publish_to, dialect: Arc::new(dialect), ready })
    }

    /// One node at its port; where the work is on Redis, three of them, and that Redis.
    fn nodes(
        &self,
        work: &Work,
        dialect: impl Dialect + 'static,
        node: impl Fn(u16) -> Result<Command, String>,
    ) -> Result<Setup, String> {
        let mut setup = self.setup(node(self.ports[0])?, dialect)?;
        if work.storage == Storage::Redis {
            let mut store = Command::new(find("redis-server", "REDIS_SERVER")?);
            store.args(["--port", &self.ports[STORE].to_string(), "--bind", "127.0.0.1"]);
            store.args(["--save", "", "--appendonly", "no", "--maxmemory-policy", "noeviction"]);
            store.current_dir(&self.directory);
            setup.store = Some(store);
            setup.others =
                self.ports[1..STORE].iter().map(|port| node(*port)).collect::<Result<_, _>>()?;
            setup.target.others = vec![self.address(1), self.address(2)];
            setup.publish_to.others = setup.target.others.clone();
        }
        Ok(setup)
    }

    /// The URL of that Redis.
    fn redis(&self) -> String {
        format!("redis://{}", self.address(STORE))
    }
}

fn fanfare(work: &Work, place: &Place) -> Result<Setup, String> {
    let binary = std::env::var_os("FANFARE_BINARY").map(PathBuf::from);
    let binary = binary.unwrap_or_else(|| env!("CARGO_BIN_EXE_fanfare").into());
    let storage = match work.storage {
        Storage::Memory => "history.storage=memory".to_owned(),
        Storage::Disk => "history.storage=disk".to_owned(),
        Storage::Redis => format!("redis.url={}", place.redis()),
    };
    let mut settings = vec![storage];
    if let Some(Certificate { file, key, .. }) = &place.certificate {
        settings.push(format!("server.tls_certificate={}", file.display()));
        settings.push(format!("server.tls_key={}", key.display()));
    }
    let limits = ["limits.connections=20000", "limits.subscriptions=10000", "log.filter=error"];
    settings.extend(limits.map(str::to_owned));
    place.nodes(work, native(work, place), |port| {
        let directory = place.directory.join(port.to_string());
        fs::create_dir(&directory).map_err(|error| error.to_string())?;
        let mut command = Command::new(&binary);
        command.args(["serve", "--listen", &format!("127.0.0.1:{port}")]);
        command.args(settings.iter().flat_map(|setting| ["--set", setting]));
        // It would take it for a setting of its own.
        command.env_remove("FANFARE_BINARY").current_dir(directory);
        Ok(command)
    })
}

fn native(work: &Work, place: &Place) -> Native {
    let (protocol, publish) = (work.load.protocol, work.load.publish);
    let carried = String::new();
    let (target, publish_to) = (place.target(), place.target());
    Native { target, publish_to, token: None, key: None, protocol, publish, carried }
}

fn limit(work: &Work, place: &Place) -> Result<Setup, String> {
    only_websocket(work)?;
    only_memory(work)?;
    only_plain(work)?;
    let this = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut command = Command::new(this);
    command.args(["limit", &place.ports[0].to_string()]);
    place.setup(command, native(work, place))
}

fn nchan(work: &Work, place: &Place) -> Result<Setup, String> {
    only_memory(work)?;
    if work.herd.is_some_and(|herd| herd.demand.kind != HerdKind::Resume || herd.demand.topics > 1)
    {
        return Err("a subscriber of it can't ask for so many channels".into());
    }
    let nginx = find("nginx", "NGINX")?;
    let module = std::env::var("NCHAN_MODULE")
        .unwrap_or_else(|_| "/usr/lib/nginx/modules/ngx_nchan_module.so".into());
    if !Path::new(&module).exists() {
        return Err(format!("there is no {module} (libnginx-mod-nchan)"));
    }
    let (directory, port) = (place.directory.display(), place.ports[0]);
    let (ssl, certificate) = match &place.certificate {
        None => ("", String::new()),
        Some(Certificate { file, key, .. }) => {
            let (file, key) = (file.display(), key.display());
            ("ssl ", format!("    ssl_certificate {file};\n    ssl_certificate_key {key};\n"))
        }
    };
    let first = if work.herd.is_some() { "oldest" } else { "newest" };
    // nginx hangs up after 1,000 requests a connection by default.
    let config = format!(
        "load_module {module};\ndaemon off;\nuser {user};\nworker_processes auto;\n\
         worker_rlimit_nofile 20000;\npid {directory}/pid;\nerror_log {directory}/error.log error;\n\
         events {{ worker_connections 19000; }}\n\
         http {{\n  access_log off;\n  tcp_nodelay on;\n  keepalive_requests 1000000000;\n\
         \x20 client_body_temp_path {directory}/body;\n  proxy_temp_path {directory}/proxy;\n\
         \x20 fastcgi_temp_path {directory}/fastcgi;\n  uwsgi_temp_path {directory}/uwsgi;\n\
         \x20 scgi_temp_path {directory}/scgi;\n  nchan_shared_memory_size 512M;\n\
         \x20 server {{\n    listen 127.0.0.1:{port} {ssl}backlog=1024;\n{certificate}\
         \x20   location ~ ^/sub/(.+)$ {{ nchan_subscriber websocket eventsource; \
         nchan_channel_id $1; nchan_subscriber_first_message {first}; }}\n\
         \x20   location ~ ^/pub/(.+)$ {{ nchan_publisher; nchan_channel_id $1; \
         nchan_message_buffer_length {kept}; }}\n  }}\n}}\n",
        user = if is_root() { "root" } else { "nobody" },
        kept = kept(work),
    );
    let config = place.write("nginx.conf", &config)?;
    let mut command = Command::new(nginx);
    command.arg("-c").arg(config).arg("-p").arg(&place.directory);
    command.arg("-e").arg(place.directory.join("error.log"));
    place.setup(command, Nchan { target: place.target(), protocol: work.load.protocol })
}

fn nats(work: &Work, place: &Place) -> Result<Setup, String> {
    only_websocket(work)?;
    // Without a herd it keeps nothing; with one, JetStream does, in memory or in files.
    if work.herd.is_none() || work.storage == Storage::Redis {
        only_memory(work)?;
    }
    let binary = find("nats-server", "NATS_SERVER")?;
    let tls = match &place.certificate {
        None => "no_tls: true".to_owned(),
        Some(Certificate { file, key, .. }) => {
            let (file, key) = (file.display(), key.display());
            format!("tls {{ cert_file: \"{file}\", key_file: \"{key}\" }}")
        }
    };
    let directory = place.directory.display();
    let jetstream = match work.herd {
        None => String::new(),
        Some(_) => format!("jetstream {{ store_dir: \"{directory}/jetstream\" }}\n"),
    };
    let config = format!(
        "listen: \"{}\"\nmax_connections: 20000\n{jetstream}\
         websocket {{ listen: \"{}\", {tls} }}\n",
        place.address(1),
        place.address(0),
    );
    let mut command = Command::new(binary);
    command.arg("-c").arg(place.write("nats.conf", &config)?);
    let mut setup = place.setup(command, Nats(place.target()))?;
    let address = place.address(1);
    setup.publish_to = Target::at(address);
    if work.herd.is_some() {
        let storage = if work.storage == Storage::Disk { "file" } else { "memory" };
        setup.ready = Box::new(move || Nats::make_stream(address, storage));
    }
    Ok(setup)
}

fn mercure(work: &Work, place: &Place) -> Result<Setup, String> {
    let binary = find("mercure", "MERCURE")?;
    if work.load.protocol != Protocol::Sse {
        return Err("it speaks SSE alone".into());
    }
    only_memory(work)?;
    only_plain(work)?;
    let key = "a-key-of-more-than-thirty-two-bytes-for-the-bench";
    let config = format!(
        "{{\n  auto_https off\n  admin off\n}}\nhttp://127.0.0.1:{} {{\n  mercure {{\n\
         \x20   publisher_jwt {key}\n    anonymous\n    transport local\n  }}\n}}\n",
        place.ports[0]
    );
    let mut command = Command::new(binary);
    command.args(["run", "--adapter", "caddyfile", "--config"]);
    command.arg(place.write("Caddyfile", &config)?).current_dir(&place.directory);
    let claims = serde_json::json!({"mercure": {"publish": ["*"]}});
    let secret = jsonwebtoken::EncodingKey::from_secret(key.as_bytes());
    let token = jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &secret);
    let token = token.map_err(|error| error.to_string())?;
    place.setup(command, Mercure { target: place.target(), token })
}

fn centrifugo(work: &Work, place: &Place) -> Result<Setup, String> {
    let binary = find("centrifugo", "CENTRIFUGO")?;
    if work.storage != Storage::Redis {
        only_memory(work)?;
    }
    let kind = work.herd.map(|herd| herd.demand.kind);
    let tls = match &place.certificate {
        None => serde_json::json!({"enabled": false}),
        Some(Certificate { file, key, .. }) => {
            serde_json::json!({"enabled": true, "cert_pem": file, "key_pem": key})
        }
    };
    let engine = match work.storage {
        Storage::Redis => serde_json::json!({"type": "redis", "redis": {"address": place.redis()}}),
        Storage::Memory | Storage::Disk => serde_json::json!({"type": "memory"}),
    };
    let mode = if kind == Some(HerdKind::Snapshot) { "cache" } else { "stream" };
    place.nodes(work, Centrifugo { target: place.target(), protocol: work.load.protocol }, |port| {
        let config = serde_json::json!({
            "http_server": {"address": "127.0.0.1", "port": port, "tls": tls},
            "client": {
                "insecure": true,
                "allowed_origins": ["*"],
                "channel_limit": 10_000,
                "recovery_max_publication_limit": 10_000,
            },
            "http_api": {"key": Centrifugo::KEY},
            "uni_sse": {"enabled": true},
            "engine": engine,
            "log": {"level": "error"},
            "usage_stats": {"disabled": true},
            "channel": {"without_namespace": {
                "history_size": kept(work),
                "history_ttl": "300s",
                "force_recovery": work.herd.is_some(),
                "force_recovery_mode": mode,
            }},
        });
        let mut command = Command::new(&binary);
        let name = format!("centrifugo-{port}.json");
        command.arg("-c").arg(place.write(&name, &config.to_string())?);
        Ok(command)
    })
}

fn sockudo(work: &Work, place: &Place) -> Result<Setup, String> {
    let mut command = Command::new(find("sockudo", "SOCKUDO")?);
    only_websocket(work)?;
    only_memory(work)?;
    only_plain(work)?;
    command.current_dir(&place.directory).envs([
        ("HOST", "127.0.0.1"),
        ("PORT", &place.ports[0].to_string()),
        ("METRICS_ENABLED", "false"),
        ("RATE_LIMITER_ENABLED", "false"),
        ("SOCKUDO_DEFAULT_APP_ID", Pusher::APP),
        ("SOCKUDO_DEFAULT_APP_KEY", Pusher::KEY),
        ("SOCKUDO_DEFAULT_APP_SECRET", Pusher::SECRET),
        ("SOCKUDO_DEFAULT_APP_MAX_CONNECTIONS", "20000"),
        ("SOCKUDO_DEFAULT_APP_MAX_CLIENT_EVENTS_PER_SECOND", "1000000"),
    ]);
    place.setup(command, Pusher(place.target()))
}

fn soketi(work: &Work, place: &Place) -> Result<Setup, String> {
    let mut command = Command::new(find("soketi", "SOKETI")?);
    only_websocket(work)?;
    only_memory(work)?;
    only_plain(work)?;
    command.arg("start").current_dir(&place.directory).envs([
        ("SOKETI_HOST", "127.0.0.1"),
        ("SOKETI_PORT", &place.ports[0].to_string()),
        ("SOKETI_DEFAULT_APP_ID", Pusher::APP),
        ("SOKETI_DEFAULT_APP_KEY", Pusher::KEY),
        ("SOKETI_DEFAULT_APP_SECRET", Pusher::SECRET),
    ]);
    place.setup(command, Pusher(place.target()))
}

fn socketio(work: &Work, place: &Place) -> Result<Setup, String> {
    let command = node(work, place, "socketio.mjs", "socket.io")?;
    place.setup(command, SocketIo(place.target()))
}

fn ws(work: &Work, place: &Place) -> Result<Setup, String> {
    let command = node(work, place, "ws.mjs", "ws")?;
    place.setup(command, Ws(place.target()))
}

fn node(work: &Work, place: &Place, script: &str, package: &str) -> Result<Command, String> {
    only_websocket(work)?;
    only_memory(work)?;
    only_plain(work)?;
    let mut command = Command::new(find("node", "NODE")?);
    let peers = Path::new(env!("CARGO_MANIFEST_DIR")).join("bench/peers");
    if !peers.join("node_modules").join(package).exists() {
        return Err("run npm ci in bench/peers first".into());
    }
    command.arg(peers.join(script)).arg(place.ports[0].to_string());
    command.env("NODE_ENV", "production");
    Ok(command)
}

fn only_websocket(work: &Work) -> Result<(), String> {
    match work.load.protocol {
        Protocol::Json => Ok(()),
        Protocol::Cbor | Protocol::Sse => Err("it has no such protocol".into()),
    }
}

/// Refuses what is Fanfare's alone, such as several events in one request, and what is kept elsewhere than in memory.
fn only_memory(work: &Work) -> Result<(), String> {
    match work.storage {
        _ if work.alone => Err("it is a work of Fanfare alone".into()),
        Storage::Memory => Ok(()),
        Storage::Disk => Err("it keeps nothing on disk".into()),
        Storage::Redis => Err("it is not set up for Redis here".into()),
    }
}

/// Refuses what only those do that are set up for it here: TLS, and clients that come back.
fn only_plain(work: &Work) -> Result<(), String> {
    match work {
        Work { is_over_tls: true, .. } => Err("it is not set up for TLS here".into()),
        Work { herd: Some(_), .. } => Err("clients can't come back to it".into()),
        _ => Ok(()),
    }
}

/// How many messages a channel keeps.
fn kept(work: &Work) -> usize {
    work.herd.map_or(100, |herd| herd.demand.behind)
}

/// The program of this name: what a variable says, or what is on the path.
fn find(name: &str, variable: &str) -> Result<PathBuf, String> {
    if let Some(path) = std::env::var_os(variable) {
        return Ok(path.into());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders = std::env::split_paths(&path).chain(["/usr/sbin".into()]);
    let found = folders.find(|folder| folder.join(name).is_file());
    found.map(|folder| folder.join(name)).ok_or_else(|| format!("{name} is not installed"))
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|of| std::os::unix::fs::MetadataExt::uid(&of) == 0)
}
