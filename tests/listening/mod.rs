//! What servers for tests share: they accept connections until they are dropped, and read the heads
//! of requests.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;

use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};

/// A port of this machine, and the task that serves it.
pub struct Listening {
    pub address: SocketAddr,
    task: AbortHandle,
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Listening {
    /// Serves each connection by what this returns for it and its number, from 0.
    pub async fn start<T>(mut talk: impl FnMut(TcpStream, usize) -> T + Send + 'static) -> Self
    where
        T: Future<Output = io::Result<()>> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move {
            let mut running = JoinSet::new();
            for number in 0.. {
                let (stream, _) = listener.accept().await.unwrap();
                // The client may go whenever it likes.
                running.spawn(talk(stream, number));
            }
        });
        Self { address, task: task.abort_handle() }
    }
}

/// The head of a request.
#[derive(Clone, Debug)]
pub struct Head {
    pub method: String,
    pub target: String,
    /// By their names in lower case.
    pub fields: HashMap<String, String>,
}

impl Head {
    pub fn field(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }

    /// Reads the next one; `None` when no further request comes.
    pub async fn read(stream: &mut TcpStream, unread: &mut Vec<u8>) -> io::Result<Option<Self>> {
        let end = loop {
            if let Some(end) = unread.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
            if stream.read_buf(unread).await? == 0 {
                return Ok(None);
            }
        };
        let head: Vec<u8> = unread.drain(..end).collect();
        let head = String::from_utf8_lossy(&head).into_owned();
        let mut lines = head.lines();
        let mut first = lines.next().unwrap().split(' ').map(str::to_owned);
        let fields = lines.filter_map(|line| line.split_once(": "));
        let fields = fields.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
        Ok(Some(Self { method: first.next().unwrap(), target: first.next().unwrap(), fields }))
    }
}
