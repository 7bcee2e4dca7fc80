//! gRPC peer on tonic, without generated code: this very program, run as `tonic-peer server PORT`,
//! `tonic-peer web-server PORT` or `tonic-peer client PORT MODE COUNT`. Methods, modes and what a request says are those of `redwire_tests::grpc`.

use anyhow::{Context as _, Result, bail};
use bytes::{Buf as _, BufMut as _};
use http::uri::PathAndQuery;
use redwire_tests::Totals;
use redwire_tests::grpc::{DRIP, LONG, SERVICE};
use std::convert::Infallible;
use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio_stream::{Stream, StreamExt as _};
use tonic::body::Body;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::server::NamedService;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Code, Request, Response, Status, Streaming};
use tower::{Service, service_fn};

type Message = Vec<u8>;
type Messages = Pin<Box<dyn Stream<Item = Result<Message, Status>> + Send>>;

/// Sends bytes as they are.
#[derive(Debug, Clone, Copy, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Message;
    type Decode = Message;
    type Encoder = Raw;
    type Decoder = Raw;

    fn encoder(&mut self) -> Raw {
        Raw
    }

    fn decoder(&mut self) -> Raw {
        Raw
    }
}

impl Encoder for Raw {
    type Item = Message;
    type Error = Status;

    fn encode(&mut self, item: Message, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Message;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Message>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining()).to_vec()))
    }
}

/// Runs the peer.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    match arguments {
        [role, port] if role == "server" => runtime.block_on(serve(port.parse()?)),
        [role, port] if role == "web-server" => runtime.block_on(serve_web(port.parse()?)),
        [role, port, mode, count] if role == "client" => {
            let calls = runtime.block_on(call(port.parse()?, mode, count.parse()?))?;
            println!("{}", serde_json::to_string(&calls)?);
            Ok(())
        }
        _ => bail!("tonic-peer server PORT | client PORT MODE COUNT"),
    }
}

async fn serve(port: u16) -> Result<()> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    Ok(Server::builder().add_service(Peer).serve(address).await?)
}

/// The same service for gRPC-Web, over HTTP/1.1, too.
async fn serve_web(port: u16) -> Result<()> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let server = Server::builder().accept_http1(true);
    let mut server = server.layer(tonic_web::GrpcWebLayer::new());
    Ok(server.add_service(Peer).serve(address).await?)
}

#[derive(Debug, Clone, Copy)]
struct Peer;

impl NamedService for Peer {
    const NAME: &'static str = SERVICE;
}

impl Service<http::Request<Body>> for Peer {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(async move {
            let mut grpc = tonic::server::Grpc::new(Raw);
            let method = request
                .uri()
                .path()
                .rsplit('/')
                .next()
                .unwrap_or_default()
                .to_owned();
            Ok(match method.as_str() {
                "Unary" => grpc.unary(service_fn(unary), request).await,
                "Collect" => grpc.client_streaming(service_fn(collect), request).await,
                "Stream" => grpc.server_streaming(service_fn(stream), request).await,
                "Echo" => grpc.streaming(service_fn(echo), request).await,
                "Slow" => grpc.server_streaming(service_fn(slow), request).await,
                _ => Status::unimplemented("no such method").into_http(),
            })
        })
    }
}

fn numbers(message: &[u8]) -> Result<(Code, usize), Status> {
    let text = String::from_utf8_lossy(message);
    let (code, count) = text
        .split_once(' ')
        .ok_or_else(|| Status::internal("no numbers"))?;
    let number = |text: &str| text.parse().map_err(|_| Status::internal("no number"));
    Ok((Code::from_i32(number(code)?), number(count)? as usize))
}

fn settle(code: Code) -> Result<(), Status> {
    match code {
        Code::Ok => Ok(()),
        code => Err(Status::new(code, "as asked")),
    }
}

/// A response that answers the metadata of a call that churns with the same.
fn tell<T>(churn: Option<MetadataValue<Ascii>>, message: T) -> Response<T> {
    let mut response = Response::new(message);
    if let Some(churn) = churn {
        response.metadata_mut().insert("x-churn", churn);
    }
    response
}

fn churn<T>(request: &Request<T>) -> Option<MetadataValue<Ascii>> {
    request.metadata().get("x-churn").cloned()
}

async fn unary(request: Request<Message>) -> Result<Response<Message>, Status> {
    let churn = churn(&request);
    let request = request.into_inner();
    settle(numbers(&request)?.0)?;
    Ok(tell(churn, request))
}

async fn collect(request: Request<Streaming<Message>>) -> Result<Response<Message>, Status> {
    let churn = churn(&request);
    let mut messages = request.into_inner();
    let mut count = 0;
    while messages.message().await?.is_some() {
        count += 1;
    }
    Ok(tell(churn, count.to_string().into_bytes()))
}

async fn stream(request: Request<Message>) -> Result<Response<Messages>, Status> {
    let churn = churn(&request);
    let request = request.into_inner();
    let (code, count) = numbers(&request)?;
    let mut answers: Vec<Result<Message, Status>> = vec![Ok(request); count];
    answers.extend(settle(code).err().map(Err));
    Ok(tell(churn, Box::pin(tokio_stream::iter(answers))))
}

async fn echo(request: Request<Streaming<Message>>) -> Result<Response<Messages>, Status> {
    let churn = churn(&request);
    Ok(tell(churn, Box::pin(request.into_inner())))
}

async fn slow(request: Request<Message>) -> Result<Response<Messages>, Status> {
    let first = tokio_stream::once(Ok(request.into_inner()));
    Ok(Response::new(Box::pin(first.chain(tokio_stream::pending()))))
}

#[derive(Clone)]
struct Client {
    grpc: tonic::client::Grpc<Channel>,
    calls: Arc<Mutex<Totals>>,
    /// Metadata of the calls.
    churn: Option<MetadataValue<Ascii>>,
}

async fn call(port: u16, mode: &str, count: usize) -> Result<Totals> {
    let channel = Endpoint::from_shared(format!("http://127.0.0.1:{port}"))?
        .connect()
        .await?;
    let client = Client {
        grpc: tonic::client::Grpc::new(channel),
        calls: Arc::default(),
        churn: None,
    };
    let next = Arc::new(AtomicUsize::new(0));
    let workers = if matches!(mode, "long" | "drip" | "paced" | "churn") {
        1
    } else {
        8
    };
    let tasks: Vec<_> = (0..workers)
        .map(|_| {
            let (mut client, next, mode) = (client.clone(), Arc::clone(&next), mode.to_owned());
            tokio::spawn(async move {
                loop {
                    let i = next.fetch_add(1, Ordering::Relaxed);
                    if i >= count {
                        break;
                    }
                    client.one(&mode, i).await;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await?;
    }
    // The resets of streams that were dropped are sent by the connection's task, which ends with this process.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let calls = client
        .calls
        .lock()
        .map_err(|_| anyhow::anyhow!("a task panicked"))?;
    Ok(calls.clone())
}

impl Client {
    async fn one(&mut self, mode: &str, i: usize) {
        match mode {
            "long" => self.messages("Echo", "0 0", LONG).await,
            "drip" => {
                let drops = tokio_stream::iter(vec![b"0 0".to_vec(); DRIP]);
                let request = Request::new(drops.throttle(Duration::from_millis(10)));
                let code = Client::read(self.begin("Echo", request).await).await;
                self.done("Echo", code);
            }
            "patient" => {
                let code = match self.start("Slow", "0 0", 1, Some(Duration::from_secs(10))).await {
                    Ok(mut answers) => match answers.message().await {
                        Ok(_) => {
                            tokio::time::sleep(Duration::from_millis(50)).await;
                            Code::Cancelled
                        }
                        Err(status) => status.code(),
                    },
                    Err(status) => status.code(),
                };
                self.done("Slow", code);
            }
            "cancel" => {
                let code = match self.start("Slow", "0 0", 1, None).await {
                    Ok(mut answers) => match answers.message().await {
                        // Dropped with its stream.
                        Ok(_) => Code::Cancelled,
                        Err(status) => status.code(),
                    },
                    Err(status) => status.code(),
                };
                self.done("Slow", code);
            }
            "deadline" => {
                let patience = Duration::from_millis(150);
                let mut client = self.clone();
                let code = tokio::time::timeout(patience, async move {
                    let answers = client.start("Slow", "0 0", 1, Some(patience)).await;
                    Client::read(answers).await
                });
                let code = code.await.unwrap_or(Code::DeadlineExceeded);
                self.done("Slow", code);
            }
            _ => {
                self.churn = match mode {
                    "churn" => format!("{i:0100}").parse().ok(),
                    _ => None,
                };
                self.of_mix(i).await;
                if matches!(mode, "paced" | "churn") {
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            }
        }
    }

    async fn of_mix(&mut self, i: usize) {
        match i % 10 {
            3 => self.unary("Unary", "5 0").await,
            4 => self.unary("Unary", "13 0").await,
            5 => self.messages("Collect", "0 0", 3).await,
            6 => self.messages("Stream", "0 5", 1).await,
            7 => self.messages("Echo", "0 0", 4).await,
            8 => self.messages("Stream", "10 2", 1).await,
            9 => self.unary("Missing", "0 0").await,
            _ => self.unary("Unary", "0 0").await,
        }
    }

    fn done(&self, method: &str, code: Code) {
        let name = redwire_tests::grpc::code_name(code as i32);
        if let Ok(mut calls) = self.calls.lock() {
            *calls.entry(format!("{method} {name}")).or_default() += 1;
        }
    }

    async fn unary(&mut self, method: &str, request: &str) {
        let code = match self.try_unary(method, request).await {
            Ok(()) => Code::Ok,
            Err(status) => status.code(),
        };
        self.done(method, code);
    }

    async fn try_unary(&mut self, method: &str, request: &str) -> Result<(), Status> {
        self.ready().await?;
        let request = self.request(request.as_bytes().to_vec());
        self.grpc.unary(request, path(method)?, Raw).await.map(|_| ())
    }

    async fn ready(&mut self) -> Result<(), Status> {
        self.grpc
            .ready()
            .await
            .map_err(|error| Status::unknown(error.to_string()))
    }

    async fn messages(&mut self, method: &str, request: &str, count: usize) {
        let answers = self.start(method, request, count, None).await;
        let code = Client::read(answers).await;
        self.done(method, code);
    }

    /// Reads to the end.
    async fn read(answers: Result<Streaming<Message>, Status>) -> Code {
        let mut answers = match answers {
            Ok(answers) => answers,
            Err(status) => return status.code(),
        };
        loop {
            match answers.message().await {
                Ok(Some(_)) => {}
                Ok(None) => return Code::Ok,
                Err(status) => return status.code(),
            }
        }
    }

    async fn start(
        &mut self,
        method: &str,
        request: &str,
        count: usize,
        patience: Option<Duration>,
    ) -> Result<Streaming<Message>, Status> {
        let messages = tokio_stream::iter(vec![request.as_bytes().to_vec(); count]);
        let mut request = self.request(messages);
        if let Some(patience) = patience {
            request.set_timeout(patience);
        }
        self.begin(method, request).await
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(churn) = self.churn.clone() {
            request.metadata_mut().insert("x-churn", churn);
        }
        request
    }

    async fn begin(
        &mut self,
        method: &str,
        request: Request<impl Stream<Item = Message> + Send + 'static>,
    ) -> Result<Streaming<Message>, Status> {
        self.ready().await?;
        let answers = self.grpc.streaming(request, path(method)?, Raw).await?;
        Ok(answers.into_inner())
    }
}

fn path(method: &str) -> Result<PathAndQuery, Status> {
    let path = format!("/{SERVICE}/{method}").parse();
    path.context("a path")
        .map_err(|error| Status::internal(error.to_string()))
}
