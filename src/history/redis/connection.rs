//! A connection to Redis whose answers are waited for in time during which this process ran.
//!
//! The client library's own time-outs go by the clock on the wall: after a process stood still, an answer that has
//! arrived and is not read yet would be one that never came, and a server that never was away would be given up.

use std::io::{self, ErrorKind};
use std::time::Duration;

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::{
    AsyncConnectionConfig, Client, Cmd, Pipeline, RedisError, RedisFuture, RedisResult, Value,
};

use crate::clock::within;

/// One connection; copies share it.
#[derive(Clone)]
pub struct Connection {
    connection: MultiplexedConnection,
    patience: Duration,
}

impl Connection {
    /// Connects in so much time at most; from then on each answer may take `patience`.
    pub async fn open(
        client: &Client,
        config: AsyncConnectionConfig,
        time: Duration,
        patience: Duration,
    ) -> RedisResult<Self> {
        let config = config.set_connection_timeout(None).set_response_timeout(None);
        let connecting = client.get_multiplexed_async_connection_with_config(&config);
        let connection = answered(time, connecting).await?;
        Ok(Self { connection, patience })
    }
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        Box::pin(answered(self.patience, self.connection.send_packed_command(command)))
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        commands: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        let answers = self.connection.send_packed_commands(commands, offset, count);
        Box::pin(answered(self.patience, answers))
    }

    fn get_db(&self) -> i64 {
        self.connection.get_db()
    }
}

/// What is answered in time.
async fn answered<T>(
    time: Duration,
    answer: impl Future<Output = RedisResult<T>>,
) -> RedisResult<T> {
    let late = |_| RedisError::from(io::Error::from(ErrorKind::TimedOut));
    within(time, answer).await.map_err(late)?
}
