//! HTTP/2, by its frames.

use super::{Content, ID, Reads, Reply, Site, Then};
use crate::content::Digest;
use bytes::Bytes;
use futures_util::{StreamExt, stream::FuturesUnordered};
use h2::{
    Reason, RecvStream, SendStream,
    server::{self, SendResponse},
};
use http::{HeaderName, HeaderValue, Response};
use std::{future::poll_fn, io, time::Duration};
use tokio::{io::AsyncWriteExt, net::TcpStream, select, time::sleep};

pub(super) async fn serve(site: &Site, stream: TcpStream) -> io::Result<()> {
    // For what is no HTTP.
    let raw = stream.into_std()?;
    let babbling = TcpStream::from_std(raw.try_clone()?)?;
    let stream = TcpStream::from_std(raw)?;
    // A window for all streams that splits no frames: many small ones, and many resets, would be taken
    // for an attack.
    let mut builder = server::Builder::new();
    builder
        .initial_connection_window_size(16 * 1_024 * 1_024)
        .max_pending_accept_reset_streams(10_000)
        .max_local_error_reset_streams(None);
    let connection = builder.handshake(stream).await;
    let mut connection = connection.map_err(io::Error::other)?;
    let mut answering = FuturesUnordered::new();
    let mut is_closing = false;
    loop {
        select! {
            request = connection.accept() => {
                let Some(request) = request else { return Ok(()) };
                let (request, respond) = request.map_err(io::Error::other)?;
                answering.push(answer(site, request, respond));
            }
            Some(then) = answering.next() => match then {
                Ok(Then::Closes) if !is_closing => {
                    is_closing = true;
                    connection.graceful_shutdown();
                }
                Ok(Then::Resets) => {
                    // What was answered has the time to be written.
                    let soon = sleep(Duration::from_millis(20));
                    tokio::pin!(soon);
                    select! {
                        () = soon => {}
                        _ = connection.accept() => {}
                    }
                    return babbling.set_zero_linger();
                }
                Ok(Then::ResetsFirst) => return babbling.set_zero_linger(),
                Ok(Then::Babbles) => {
                    let mut babbling = babbling;
                    babbling.write_all(&[b'\0'; 1_000]).await?;
                    return Ok(());
                }
                // A stream that was given up is no matter of the others.
                _ => {}
            },
        }
    }
}

async fn answer(
    site: &Site,
    request: http::Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
) -> Result<Then, h2::Error> {
    let (head, body) = request.into_parts();
    let id = head.headers.get(ID).and_then(|id| id.to_str().ok());
    let id = id.and_then(|id| id.parse().ok()).unwrap_or(0);
    let (place, reply) = site.arrive(id);
    let mut unread = Some(body);
    if let Some(body) = unread.take_if(|_| reply.reads == Reads::First) {
        site.received(place, read(body).await?);
    }
    if matches!(reply.then, Then::ResetsFirst | Then::Babbles) {
        return Ok(reply.then);
    }
    site.answers(&reply);
    write(site, &mut respond, &reply).await?;
    if let Some(body) = unread.take_if(|_| reply.reads == Reads::Behind) {
        site.received(place, read(body).await?);
    }
    // What is left unread is told to stop.
    Ok(reply.then)
}

async fn read(mut body: RecvStream) -> Result<Digest, h2::Error> {
    let mut digest = Digest::default();
    while let Some(bytes) = body.data().await {
        let bytes = bytes?;
        digest.add(&bytes);
        body.flow_control().release_capacity(bytes.len())?;
    }
    body.trailers().await?;
    Ok(digest)
}

async fn write(
    site: &Site,
    respond: &mut SendResponse<Bytes>,
    reply: &Reply,
) -> Result<(), h2::Error> {
    let mut response = Response::new(());
    *response.status_mut() = http::StatusCode::from_u16(reply.status).unwrap();
    let fields = reply.fields.iter();
    // Connections are the frames' business here.
    for (name, value) in fields.filter(|(name, _)| name != "connection") {
        let name = HeaderName::from_bytes(name.to_ascii_lowercase().as_bytes());
        let value = HeaderValue::from_bytes(value);
        response.headers_mut().append(name.unwrap(), value.unwrap());
    }
    let is_empty = matches!(&reply.content, Content::Whole(bytes) if bytes.is_empty());
    if let Content::Endless {
        length: Some(length),
        ..
    } = reply.content
    {
        let headers = response.headers_mut();
        headers.insert(http::header::CONTENT_LENGTH, length.into());
    }
    let mut stream = respond.send_response(response, is_empty)?;
    match &reply.content {
        Content::Whole(_) if is_empty => Ok(()),
        Content::Whole(bytes) => stream.send_data(bytes.clone(), true),
        Content::Endless { piece, pause, .. } => {
            let bytes = Bytes::from(vec![b'['; *piece]);
            loop {
                send(&mut stream, &bytes).await?;
                site.wrote(*piece);
                sleep(*pause).await;
            }
        }
        Content::Stalled(bytes) => {
            stream.send_data(bytes.clone(), false)?;
            poll_fn(|cx| stream.poll_reset(cx)).await?;
            Ok(())
        }
        Content::CutShort(bytes) => {
            stream.send_data(bytes.clone(), false)?;
            // The client is to have seen them.
            sleep(Duration::from_millis(20)).await;
            stream.send_reset(Reason::INTERNAL_ERROR);
            Ok(())
        }
    }
}

/// Within what the client allows.
async fn send(stream: &mut SendStream<Bytes>, bytes: &Bytes) -> Result<(), h2::Error> {
    let mut left = bytes.clone();
    while !left.is_empty() {
        stream.reserve_capacity(left.len());
        let capacity = match poll_fn(|cx| stream.poll_capacity(cx)).await {
            Some(capacity) => capacity?,
            None => return Err(Reason::CANCEL.into()),
        };
        stream.send_data(left.split_to(capacity.min(left.len())), false)?;
    }
    Ok(())
}
