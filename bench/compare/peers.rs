//! The systems that are compared: how each is found on this machine, configured and started.
//!
//! Each runs as one would run it in production: a thread or process for each processor where it can
//! have them, no debug log, history in memory where it has one, and no limit that the work meets.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use fanfare::cli::bench::{Dialect, Native, Protocol, Target};

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
    /// Two free ports.
    pub ports: [u16; 2],
}

/// A system ready to be started.
pub struct Setup {
    /// What starts it.
    pub command: Command,
    /// Where subscribers find it.
    pub target: Target,
    /// Where publishers do.
    pub publish_to: Target,
    /// How it is spoken to.
    pub dialect: Arc<dyn Dialect>,
}

impl Place {
    fn target(&self) -> Target {
        Target::at(([127, 0, 0, 1], self.ports[0]).into())
    }

    fn write(&self, name: &str, text: &str) -> Result<PathBuf, String> {
        let path = self.directory.join(name);
        fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(path)
    }

    fn setup(&self, command: Command, dialect: impl Dialect + 'static) -> Result<Setup, String> {
        let (target, publish_to) = (self.target(), self.target());
        Ok(Setup { command, target, publish_to, dialect: Arc::new(dialect) })
    }
}

fn fanfare(work: &Work, place: &Place) -> Result<Setup, String> {
    let binary = std::env::var_os("FANFARE_BINARY").map(PathBuf::from);
    let binary = binary.unwrap_or_else(|| env!("CARGO_BIN_EXE_fanfare").into());
    let mut command = Command::new(binary);
    let storage = if work.storage == Storage::Disk { "disk" } else { "memory" };
    command.args(["serve", "--listen", &format!("127.0.0.1:{}", place.ports[0])]);
    command.args(["--set", &format!("history.storage={storage}")]);
    let settings = ["limits.connections=20000", "limits.subscriptions=10000", "log.filter=error"];
    command.args(settings.iter().flat_map(|setting| ["--set", setting]));
    // It would take it for a setting of its own.
    command.env_remove("FANFARE_BINARY").current_dir(&place.directory);
    place.setup(command, native(work, place))
}

fn native(work: &Work, place: &Place) -> Native {
    let (protocol, publish) = (work.load.protocol, work.load.publish);
    let carried = String::new();
    Native { target: place.target(), token: None, key: None, protocol, publish, carried }
}

fn limit(work: &Work, place: &Place) -> Result<Setup, String> {
    only_websocket(work)?;
    only_memory(work)?;
    let this = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut command = Command::new(this);
    command.args(["limit", &place.ports[0].to_string()]);
    place.setup(command, native(work, place))
}

fn nchan(work: &Work, place: &Place) -> Result<Setup, String> {
    only_memory(work)?;
    let nginx = find("nginx", "NGINX")?;
    let module = std::env::var("NCHAN_MODULE")
        .unwrap_or_else(|_| "/usr/lib/nginx/modules/ngx_nchan_module.so".into());
    if !Path::new(&module).exists() {
        return Err(format!("there is no {module} (libnginx-mod-nchan)"));
    }
    let (directory, port) = (place.directory.display(), place.ports[0]);
    // nginx hangs up after 1,000 requests a connection by default.
    let config = format!(
        "load_module {module};\ndaemon off;\nuser {user};\nworker_processes auto;\n\
         worker_rlimit_nofile 20000;\npid {directory}/pid;\nerror_log {directory}/error.log error;\n\
         events {{ worker_connections 19000; }}\n\
         http {{\n  access_log off;\n  tcp_nodelay on;\n  keepalive_requests 1000000000;\n\
         \x20 client_body_temp_path {directory}/body;\n  proxy_temp_path {directory}/proxy;\n\
         \x20 fastcgi_temp_path {directory}/fastcgi;\n  uwsgi_temp_path {directory}/uwsgi;\n\
         \x20 scgi_temp_path {directory}/scgi;\n  nchan_shared_memory_size 512M;\n\
         \x20 server {{\n    listen 127.0.0.1:{port} backlog=1024;\n\
         \x20   location ~ ^/sub/(.+)$ {{ nchan_subscriber websocket eventsource; \
         nchan_channel_id $1; nchan_subscriber_first_message newest; }}\n\
         \x20   location ~ ^/pub/(.+)$ {{ nchan_publisher; nchan_channel_id $1; \
         nchan_message_buffer_length 100; }}\n  }}\n}}\n",
        user = if is_root() { "root" } else { "nobody" },
    );
    let config = place.write("nginx.conf", &config)?;
    let mut command = Command::new(nginx);
    command.arg("-c").arg(config).arg("-p").arg(&place.directory);
    command.arg("-e").arg(place.directory.join("error.log"));
    place.setup(command, Nchan { target: place.target(), protocol: work.load.protocol })
}

fn nats(work: &Work, place: &Place) -> Result<Setup, String> {
    only_websocket(work)?;
    only_memory(work)?;
    let binary = find("nats-server", "NATS_SERVER")?;
    let config = format!(
        "listen: \"127.0.0.1:{}\"\nmax_connections: 20000\n\
         websocket {{ listen: \"127.0.0.1:{}\", no_tls: true }}\n",
        place.ports[1], place.ports[0]
    );
    let mut command = Command::new(binary);
    command.arg("-c").arg(place.write("nats.conf", &config)?);
    let mut setup = place.setup(command, Nats(place.target()))?;
    setup.publish_to = Target::at(([127, 0, 0, 1], place.ports[1]).into());
    Ok(setup)
}

fn mercure(work: &Work, place: &Place) -> Result<Setup, String> {
    let binary = find("mercure", "MERCURE")?;
    if work.load.protocol != Protocol::Sse {
        return Err("it speaks SSE alone".into());
    }
    only_memory(work)?;
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
    only_websocket(work)?;
    only_memory(work)?;
    let config = serde_json::json!({
        "http_server": {"address": "127.0.0.1", "port": place.ports[0]},
        "client": {"insecure": true, "allowed_origins": ["*"]},
        "http_api": {"key": Centrifugo::KEY},
        "log": {"level": "error"},
        "channel": {"without_namespace": {"history_size": 100, "history_ttl": "300s"}},
    });
    let mut command = Command::new(binary);
    command.arg("-c").arg(place.write("centrifugo.json", &config.to_string())?);
    place.setup(command, Centrifugo(place.target()))
}

fn sockudo(work: &Work, place: &Place) -> Result<Setup, String> {
    let mut command = Command::new(find("sockudo", "SOCKUDO")?);
    only_websocket(work)?;
    only_memory(work)?;
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

/// Refuses what no peer does: several events in one request, or an acknowledgement from the disk.
fn only_memory(work: &Work) -> Result<(), String> {
    if work.alone { Err("it is a work of Fanfare alone".into()) } else { Ok(()) }
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
