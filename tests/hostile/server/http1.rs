//! HTTP/1.1, byte by byte.

use super::{Content, ID, Reads, Reply, Site, Then};
use crate::content::Digest;
use std::{
    future::pending,
    io::{self, ErrorKind},
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufStream},
    net::TcpStream,
    time::sleep,
};

type Stream = BufStream<TcpStream>;

/// How a request frames its body.
#[derive(Clone, Copy)]
enum Framing {
    Length(usize),
    Chunked,
}

pub(super) async fn serve(site: &Site, stream: TcpStream) -> io::Result<()> {
    let mut stream = BufStream::new(stream);
    while let Some((id, framing)) = read_head(&mut stream).await? {
        let (place, reply) = site.arrive(id);
        if reply.reads == Reads::First {
            site.received(place, read_body(&mut stream, framing).await?);
        }
        if reply.then == Then::ResetsFirst {
            return reset(&stream);
        }
        site.answers(&reply);
        write(site, &mut stream, &reply).await?;
        if reply.reads == Reads::Behind {
            site.received(place, read_body(&mut stream, framing).await?);
        }
        match reply.then {
            Then::Closes => {
                stream.shutdown().await?;
                // What is left unread would turn the end into a reset.
                let mut rest = [0; 4_096];
                while stream.read(&mut rest).await? > 0 {}
                return Ok(());
            }
            Then::Resets => return reset(&stream),
            _ if reply.reads == Reads::Never => pending().await,
            _ => {}
        }
    }
    Ok(())
}

/// `None` at the end of the connection.
async fn read_head(stream: &mut Stream) -> io::Result<Option<(usize, Framing)>> {
    let (mut id, mut framing) = (0, Framing::Length(0));
    let mut lines = 0;
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(None);
        }
        if line == "\r\n" && lines > 0 {
            return Ok(Some((id, framing)));
        }
        lines += 1;
        let line = line.to_ascii_lowercase();
        match line.trim_end().split_once(": ") {
            Some((ID, value)) => id = parse(value)?,
            Some(("content-length", value)) => framing = Framing::Length(parse(value)?),
            Some(("transfer-encoding", "chunked")) => framing = Framing::Chunked,
            _ => {}
        }
    }
}

fn parse(value: &str) -> io::Result<usize> {
    value.parse().map_err(|_| ErrorKind::InvalidData.into())
}

async fn read_body(stream: &mut Stream, framing: Framing) -> io::Result<Digest> {
    let mut digest = Digest::default();
    match framing {
        Framing::Length(length) => read_bytes(stream, length, &mut digest).await?,
        Framing::Chunked => loop {
            let mut line = String::new();
            stream.read_line(&mut line).await?;
            let length = usize::from_str_radix(line.trim_end(), 16);
            let length = length.map_err(|_| ErrorKind::InvalidData)?;
            read_bytes(stream, length, &mut digest).await?;
            let mut end = [0; 2];
            stream.read_exact(&mut end).await?;
            if length == 0 {
                break;
            }
        },
    }
    Ok(digest)
}

async fn read_bytes(stream: &mut Stream, length: usize, digest: &mut Digest) -> io::Result<()> {
    let mut left = length;
    while left > 0 {
        let bytes = stream.fill_buf().await?;
        if bytes.is_empty() {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let count = bytes.len().min(left);
        digest.add(&bytes[..count]);
        stream.consume(count);
        left -= count;
    }
    Ok(())
}

async fn write(site: &Site, stream: &mut Stream, reply: &Reply) -> io::Result<()> {
    if reply.then == Then::Babbles {
        stream.write_all(&[b'\0'; 1_000]).await?;
        return stream.flush().await;
    }
    let mut head = format!("HTTP/1.1 {} X\r\n", reply.status).into_bytes();
    for (name, value) in &reply.fields {
        head.extend_from_slice(name.as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(value);
        head.extend_from_slice(b"\r\n");
    }
    let length = match &reply.content {
        Content::Whole(bytes) => Some(bytes.len() as u64),
        Content::Endless { length, .. } => *length,
        Content::Stalled(bytes) | Content::CutShort(bytes) => Some(bytes.len() as u64 + 1_000),
    };
    match length {
        Some(length) => head.extend(format!("content-length: {length}\r\n\r\n").into_bytes()),
        None => head.extend_from_slice(b"transfer-encoding: chunked\r\n\r\n"),
    }
    stream.write_all(&head).await?;
    match &reply.content {
        Content::Whole(bytes) => stream.write_all(bytes).await?,
        Content::Endless {
            piece,
            pause,
            length,
        } => {
            stream.flush().await?;
            return write_for_ever(site, stream, *piece, *pause, length.is_none()).await;
        }
        Content::Stalled(bytes) => {
            stream.write_all(bytes).await?;
            stream.flush().await?;
            return pending().await;
        }
        Content::CutShort(bytes) => {
            stream.write_all(bytes).await?;
            stream.flush().await?;
            // The client is to have seen them.
            sleep(Duration::from_millis(20)).await;
            reset(stream)?;
            return Err(ErrorKind::ConnectionReset.into());
        }
    }
    stream.flush().await
}

async fn write_for_ever(
    site: &Site,
    stream: &mut Stream,
    piece: usize,
    pause: Duration,
    is_chunked: bool,
) -> io::Result<()> {
    let mut bytes = Vec::new();
    if is_chunked {
        bytes.extend(format!("{piece:x}\r\n").into_bytes());
    }
    bytes.resize(bytes.len() + piece, b'[');
    if is_chunked {
        bytes.extend_from_slice(b"\r\n");
    }
    loop {
        stream.write_all(&bytes).await?;
        stream.flush().await?;
        site.wrote(piece);
        if pause.is_zero() {
            // Others are to have their turns, where all run on one thread.
            tokio::task::yield_now().await;
        } else {
            sleep(pause).await;
        }
    }
}

/// Dropped after this, the connection is reset.
fn reset(stream: &Stream) -> io::Result<()> {
    stream.get_ref().set_zero_linger()
}
