//! HTTP/2 and gRPC, through the streams.

mod encoder;
mod grpc;
mod harness;
mod matching;
mod middle;
mod traffic;
