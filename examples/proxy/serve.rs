//! Connections: accepted until told to stop, and then finished.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

use super::forward::Forward;

/// So many requests may share an HTTP/2 connection: as many as may wait in a partition, for one that
/// waits must not keep out those of other partitions.
const MAX_STREAMS: u32 = 10_000;

/// Serves whoever connects, until `stop`; then closes the port and gives back what is still open.
pub(crate) async fn accept(
    listener: TcpListener,
    forward: Forward,
    stop: impl Future<Output = ()>,
) -> GracefulShutdown {
    let forward = Arc::new(forward);
    let connections = GracefulShutdown::new();
    let mut stop = std::pin::pin!(stop);
    loop {
        let accepted = tokio::select! {
            () = &mut stop => return connections,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => serve(stream, &forward, &connections),
            // Out of file descriptors, most likely: some will be closed shortly.
            Err(_) => sleep(Duration::from_millis(10)).await,
        }
    }
}

/// Lets what is under way finish, but not for longer than `grace` and not after `now`. Returns
/// whether all of it has; what has not ends with the runtime.
pub(crate) async fn finish(
    connections: GracefulShutdown,
    grace: Duration,
    now: impl Future<Output = ()>,
) -> bool {
    tokio::select! {
        finished = timeout(grace, connections.shutdown()) => finished.is_ok(),
        () = now => false,
    }
}

fn serve(stream: TcpStream, forward: &Arc<Forward>, connections: &GracefulShutdown) {
    // An event of a stream must not wait for the acknowledgement of the one before.
    let _ = stream.set_nodelay(true);
    let forward = Arc::clone(forward);
    let service = service_fn(move |request| {
        let forward = Arc::clone(&forward);
        async move { Ok::<_, Infallible>(forward.answer(request).await) }
    });
    let mut http = auto::Builder::new(TokioExecutor::new());
    http.http2().max_concurrent_streams(MAX_STREAMS);
    let connection = http
        .serve_connection(TokioIo::new(stream), service)
        .into_owned();
    let connection = connections.watch(connection);
    tokio::spawn(async move {
        // A client that hangs up takes its requests with it: their futures are dropped, and so
        // their places in the queue.
        let _ = connection.await;
    });
}
