//! One connection of Hadoop RPC.

use std::fmt;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use futures::{FutureExt, ready};
use steadfs_common::limits::MAX_RPC_FRAME_BYTES;
use steadfs_common::{FsError, FsErrorKind, FsResult};
use steadfs_daemon::fair::Place;
use steadfs_daemon::shutdown::Shutdown;
use steadfs_wire::rpc::{
    Auth, CALL_CONTEXT, CALL_PING, CALL_SASL, CallId, Fatal, Invocation, LENGTH_BYTES, PREAMBLE_BYTES,
    Preamble, PreambleError, Request, SaslStep, SaslSteps, User, append_error, append_fatal, append_success,
    bad_version, take_frame,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep, timeout};

use crate::handler::Call;
use crate::metrics::Held;
use crate::options::{CALLS_PER_TURN, DEADLINE_CHECK, MAX_HANDSHAKE_FRAME_BYTES, READ_BYTES};
use crate::server::{Server, farewell};

/// Longest part of a name from outside that an answer repeats, in characters.
const SHOWN_CHARS: usize = 200;

/// Why a connection ended before the client closed it.
#[derive(Debug)]
pub(crate) enum Ended {
    /// For what the client sent, or did not send in time.
    Broken(String),
    /// The network, the client, or time ended it; nobody is to blame.
    Lost(String),
}

impl Ended {
    pub(crate) fn broken(reason: impl fmt::Display) -> Self {
        Self::Broken(reason.to_string())
    }

    pub(crate) fn lost(error: impl fmt::Display) -> Self {
        Self::Lost(error.to_string())
    }
}

/// Why a conversation stops, and what the client is told.
enum Stop {
    /// Nothing more can be said.
    Ended(Ended),
    /// The client is told, then the connection is closed.
    Fatal(CallId, Fatal),
}

impl From<Ended> for Stop {
    fn from(ended: Ended) -> Self {
        Self::Ended(ended)
    }
}

/// How far the handshake is.
enum Stage {
    Sasl(SaslSteps),
    Context,
    Open(Caller),
}

/// Who calls on this connection.
struct Caller {
    user: Arc<str>,
    real_user: Option<Arc<str>>,
    /// What the connection context said; a call may name no other.
    client_id: Bytes,
}

/// A call that waits for its answer.
struct InFlight {
    id: CallId,
    /// Bytes of its frame that count against the connection's own.
    own_bytes: usize,
    _share: Option<OwnedSemaphorePermit>,
    _counted: Held,
    answer: BoxFuture<'static, FsResult<Bytes>>,
}

struct Answered {
    id: CallId,
    own_bytes: usize,
    answer: FsResult<Bytes>,
}

impl Future for InFlight {
    type Output = Answered;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answered> {
        let answer = ready!(self.answer.as_mut().poll(cx));
        Poll::Ready(Answered { id: self.id.clone(), own_bytes: self.own_bytes, answer })
    }
}

/// What reading the buffer led to.
#[derive(PartialEq, Eq)]
enum Turn {
    /// The client must send more, or calls must be answered, before there is anything to do.
    Waits,
    /// There may be more to do at once.
    GoesOn,
}

/// A connection after its first bytes turned out to be Hadoop's.
///
/// Everything happens on one task: frames are taken off the buffer, calls begun and polled, and all answers that are
/// ready go out in one write. A connection is read only while it has room for calls and its answers are taken, so a
/// client that does not listen is not listened to.
pub(crate) struct Connection<'s> {
    server: &'s Server,
    shutdown: &'s Shutdown,
    stream: TcpStream,
    peer: SocketAddr,
    input: BytesMut,
    output: BytesMut,
    stage: Stage,
    in_flight: FuturesUnordered<InFlight>,
    /// Bytes of frames held without a share of the server's.
    own_bytes: usize,
    /// The share of a frame that is arriving.
    arriving: Option<OwnedSemaphorePermit>,
    opened: Instant,
    /// When the client was heard last.
    heard: Instant,
    /// When the frame that is arriving began.
    frame_begun: Option<Instant>,
}

impl<'s> Connection<'s> {
    pub(crate) fn new(
        server: &'s Server,
        stream: TcpStream,
        first: BytesMut,
        peer: SocketAddr,
        shutdown: &'s Shutdown,
    ) -> Self {
        let now = Instant::now();
        Self {
            server,
            shutdown,
            stream,
            peer,
            input: first,
            output: BytesMut::new(),
            stage: Stage::Context,
            in_flight: FuturesUnordered::new(),
            own_bytes: 0,
            arriving: None,
            opened: now,
            heard: now,
            frame_begun: None,
        }
    }

    /// Serves the connection until its end.
    pub(crate) async fn run(mut self) -> Result<(), Ended> {
        match self.talk().await {
            Ok(()) => Ok(()),
            Err(Stop::Ended(ended)) => Err(ended),
            Err(Stop::Fatal(id, fatal)) => {
                append_fatal(&mut self.output, &id, &fatal);
                farewell(&mut self.stream, &self.output).await;
                Err(Ended::broken(fatal))
            }
        }
    }

    async fn talk(&mut self) -> Result<(), Stop> {
        self.preamble().await?;
        let mut stopping = false;
        let period = self.check_period();
        let mut check = pin!(sleep(period));
        // Once for all turns: who waits is noted in a list that all connections share.
        let shutdown = self.shutdown;
        let mut triggered = pin!(shutdown.triggered());
        loop {
            let (turn, place) = if stopping { (Turn::Waits, None) } else { self.take_frames().await? };
            self.flush(place).await?;
            if stopping && self.in_flight.is_empty() {
                return Ok(());
            }
            if turn == Turn::GoesOn {
                tokio::task::yield_now().await;
                self.collect_answers();
                continue;
            }
            let reading = !stopping && self.in_flight.len() < self.server.options.max_in_flight;
            if reading && self.input.capacity() - self.input.len() < LENGTH_BYTES {
                self.input.reserve(READ_BYTES);
            }
            tokio::select! {
                Some(answered) = self.in_flight.next() => {
                    self.answer(answered);
                    self.collect_answers();
                }
                read = self.stream.read_buf(&mut self.input), if reading => {
                    if self.heard(read)? == 0 {
                        return self.closed_by_client();
                    }
                }
                () = &mut check => {
                    check.as_mut().reset(Instant::now() + period);
                    if self.deadlines()? {
                        return Ok(());
                    }
                }
                () = &mut triggered, if !stopping => stopping = true,
            }
        }
    }

    /// Reads the first seven bytes, some of which are here.
    async fn preamble(&mut self) -> Result<(), Stop> {
        let deadline = self.opened + self.server.options.handshake;
        let bytes = loop {
            if let Some(bytes) = self.input.first_chunk::<PREAMBLE_BYTES>() {
                break *bytes;
            }
            let read = tokio::time::timeout_at(deadline, self.stream.read_buf(&mut self.input))
                .await
                .map_err(|_| Ended::broken("the preamble did not come in time"))?;
            if self.heard(read)? == 0 {
                return Err(Ended::broken("it ended within the preamble").into());
            }
        };
        match Preamble::parse(bytes) {
            Ok(preamble) => {
                self.stage = match preamble.auth {
                    Auth::Simple => Stage::Context,
                    Auth::Sasl => Stage::Sasl(SaslSteps::default()),
                };
                let _ = self.input.split_to(PREAMBLE_BYTES);
                Ok(())
            }
            Err(error) => {
                match error {
                    PreambleError::Version(version) => bad_version(&mut self.output, version),
                    PreambleError::Auth(_) => {
                        append_fatal(&mut self.output, &CallId::none(), &Fatal::header(error.to_string()));
                    }
                    PreambleError::NotHadoop => {}
                }
                farewell(&mut self.stream, &self.output).await;
                Err(Ended::broken(error).into())
            }
        }
    }

    /// Counts what a read brought.
    fn heard(&mut self, read: std::io::Result<usize>) -> Result<usize, Ended> {
        let count = read.map_err(Ended::lost)?;
        self.heard = Instant::now();
        self.server.metrics.received.inc_by(count as u64);
        Ok(count)
    }

    fn closed_by_client(&self) -> Result<(), Stop> {
        match self.input.len() {
            0 => Ok(()),
            left => Err(Ended::broken(format!("it ended within a frame, after {left} bytes")).into()),
        }
    }

    /// Begins the calls that are in the buffer, as far as there is room for them. Gives back the place that it took for
    /// them, if there were any.
    async fn take_frames(&mut self) -> Result<(Turn, Option<Place>), Stop> {
        // Held from the first call until the answers are out, and never while anything is awaited.
        let mut place: Option<Place> = None;
        for _ in 0..CALLS_PER_TURN {
            if self.output.len() >= self.server.options.max_unsent {
                return Ok((Turn::GoesOn, place));
            }
            if self.in_flight.len() >= self.server.options.max_in_flight {
                return Ok((Turn::Waits, place));
            }
            let limit = if matches!(self.stage, Stage::Open(_)) {
                MAX_RPC_FRAME_BYTES
            } else {
                MAX_HANDSHAKE_FRAME_BYTES
            };
            match take_frame(&mut self.input, limit) {
                Err(error) => return Err(Stop::Fatal(CallId::none(), Fatal::header(error.to_string()))),
                Ok(Err(length)) => {
                    if length.is_some() {
                        place = None;
                    }
                    self.await_frame(length).await?;
                    return Ok((Turn::Waits, place));
                }
                Ok(Ok(frame)) => {
                    self.frame_begun = None;
                    let share = match self.arriving.take() {
                        Some(share) => Some(share),
                        None => {
                            let mut room = pin!(share(self.server, self.own_bytes, frame.len()));
                            match room.as_mut().now_or_never() {
                                Some(share) => share?,
                                None => {
                                    place = None;
                                    room.await?
                                }
                            }
                        }
                    };
                    if let Stage::Open(caller) = &self.stage
                        && place.is_none()
                    {
                        place = Some(self.server.turns.take(&caller.user).await);
                    }
                    if frame.len() > self.server.options.own_bytes {
                        // What follows the frame would keep its memory for as long as the connection lives.
                        self.input = BytesMut::from(&self.input[..]);
                    }
                    self.frame(frame, share)?;
                }
            }
        }
        Ok((Turn::GoesOn, place))
    }

    /// Makes room for a frame that is not all here.
    async fn await_frame(&mut self, length: Option<usize>) -> Result<(), Stop> {
        if self.input.is_empty() {
            self.frame_begun = None;
            return Ok(());
        }
        self.frame_begun.get_or_insert_with(Instant::now);
        if let Some(length) = length {
            if self.arriving.is_none() {
                self.arriving = share(self.server, self.own_bytes, length).await?;
            }
            self.input.reserve((LENGTH_BYTES + length).saturating_sub(self.input.len()));
        }
        Ok(())
    }

    /// Does what a frame asks.
    fn frame(&mut self, frame: Bytes, share: Option<OwnedSemaphorePermit>) -> Result<(), Stop> {
        let bytes = frame.len();
        let request = Request::parse(frame).map_err(|fatal| Stop::Fatal(CallId::none(), fatal))?;
        let id = request.id.clone();
        match id.call_id {
            CALL_PING => Ok(()),
            CALL_SASL => self.sasl(request),
            CALL_CONTEXT => self.context(request),
            0.. => self.call(request, if share.is_some() { 0 } else { bytes }, share),
            other => Err(Fatal::header(format!("out-of-band call {other} is not known"))),
        }
        .map_err(|fatal| Stop::Fatal(id, fatal))
    }

    fn sasl(&mut self, request: Request) -> Result<(), Fatal> {
        let Stage::Sasl(steps) = &mut self.stage else {
            return Err(Fatal::header("SASL was not asked for, or is over"));
        };
        match steps.step(request.body)? {
            SaslStep::Answer(message) => append_success(&mut self.output, &request.id, &message),
            SaslStep::Silent => {}
        }
        Ok(())
    }

    fn context(&mut self, request: Request) -> Result<(), Fatal> {
        match &self.stage {
            Stage::Open(_) => return Err(Fatal::header("the connection context came twice")),
            Stage::Sasl(steps) if !steps.is_done() => {
                return Err(Fatal::header("the connection context came during SASL"));
            }
            Stage::Sasl(_) | Stage::Context => {}
        }
        let user = User::parse(request.body)?;
        self.stage = Stage::Open(Caller {
            user: user.effective.into(),
            real_user: user.real.map(Into::into),
            client_id: request.id.client_id,
        });
        Ok(())
    }

    fn call(
        &mut self,
        request: Request,
        own_bytes: usize,
        share: Option<OwnedSemaphorePermit>,
    ) -> Result<(), Fatal> {
        let Stage::Open(caller) = &self.stage else {
            return Err(Fatal::header("a call came before the connection context"));
        };
        let id = request.id;
        if !caller.client_id.is_empty() && id.client_id != caller.client_id {
            return Err(Fatal::header("a call names another client than the connection context"));
        }
        let invocation = Invocation::parse(request.body)?;
        let known = self.server.handler.protocols().iter().find(|known| **known == invocation.protocol);
        let (Some(protocol), 1) = (known, invocation.version) else {
            append_error(&mut self.output, &id, &unknown_protocol(&invocation));
            self.server.metrics.answered(false);
            return Ok(());
        };
        let call = Call {
            protocol,
            method: invocation.method,
            user: Arc::clone(&caller.user),
            real_user: caller.real_user.clone(),
            client_id: (*id.client_id).try_into().ok(),
            call_id: id.call_id,
            retry_count: id.retry_count,
            peer: self.peer,
            caller_context: request.caller_context,
            request: invocation.request,
        };
        let counted = Held::new(self.server.metrics.in_flight.clone());
        let mut answer = Arc::clone(&self.server.handler).call(call);
        match (&mut answer).now_or_never() {
            Some(answer) => self.answer(Answered { id, own_bytes: 0, answer }),
            None => {
                self.own_bytes += own_bytes;
                self.in_flight.push(InFlight { id, own_bytes, _share: share, _counted: counted, answer });
            }
        }
        Ok(())
    }

    /// Appends an answer; [`Connection::flush`] sends it.
    fn answer(&mut self, answered: Answered) {
        self.own_bytes -= answered.own_bytes;
        self.server.metrics.answered(answered.answer.is_ok());
        match answered.answer {
            Ok(message) => append_success(&mut self.output, &answered.id, &message),
            Err(error) => append_error(&mut self.output, &answered.id, &error),
        }
    }

    /// Appends the answers that are ready by now.
    fn collect_answers(&mut self) {
        while self.output.len() < self.server.options.max_unsent
            && let Some(Some(answered)) = self.in_flight.next().now_or_never()
        {
            self.answer(answered);
        }
    }

    /// Sends the answers. The place is kept only as long as the socket takes them at once.
    async fn flush(&mut self, place: Option<Place>) -> Result<(), Ended> {
        while place.is_some() && !self.output.is_empty() {
            match self.stream.try_write(&self.output) {
                Ok(count) => {
                    self.output.advance(count);
                    self.server.metrics.sent.inc_by(count as u64);
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(Ended::lost(error)),
            }
        }
        drop(place);
        while !self.output.is_empty() {
            let count = timeout(self.server.options.write, self.stream.write_buf(&mut self.output))
                .await
                .map_err(|_| Ended::Lost("the client does not take its answers".into()))?
                .map_err(Ended::lost)?;
            self.server.metrics.sent.inc_by(count as u64);
        }
        if self.output.capacity() > self.server.options.max_unsent {
            self.output = BytesMut::new();
        }
        Ok(())
    }

    fn check_period(&self) -> Duration {
        let options = &self.server.options;
        [options.handshake, options.frame, options.idle, options.idle_when_crowded]
            .into_iter()
            .fold(DEADLINE_CHECK, Duration::min)
    }

    /// Looks whether the client is late; true if it has been silent for so long that nobody misses it.
    fn deadlines(&self) -> Result<bool, Stop> {
        let options = &self.server.options;
        let late = |what: &str| Err(Stop::Ended(Ended::broken(format!("{what} did not come in time"))));
        if !matches!(self.stage, Stage::Open(_)) && self.opened.elapsed() > options.handshake {
            return late("the connection context");
        }
        if self.frame_begun.is_some_and(|begun| begun.elapsed() > options.frame) {
            return late("the rest of a frame");
        }
        let idle = if self.server.is_crowded() { options.idle_when_crowded } else { options.idle };
        Ok(self.in_flight.is_empty() && self.heard.elapsed() > idle)
    }
}

/// A share of the server's memory for a frame, if `held` bytes and it are too much for the connection's own.
async fn share(server: &Server, held: usize, length: usize) -> Result<Option<OwnedSemaphorePermit>, Stop> {
    let options = &server.options;
    if held + length <= options.own_bytes {
        return Ok(None);
    }
    let kib = u32::try_from(length.div_ceil(1 << 10)).expect("frames are below 4 GiB");
    let refused = || {
        let message = format!("no room for a frame of {length} bytes: too many large requests at once");
        let class = FsErrorKind::Retriable.hadoop_class();
        Stop::Fatal(CallId::none(), Fatal { class, ..Fatal::header(message) })
    };
    if length > options.shared_bytes {
        return Err(refused());
    }
    let share = Arc::clone(&server.shared_kib).acquire_many_owned(kib);
    match timeout(options.frame, share).await {
        Ok(share) => Ok(Some(share.expect("never closed"))),
        Err(_) => Err(refused()),
    }
}

fn unknown_protocol(invocation: &Invocation) -> FsError {
    let name: String = invocation.protocol.chars().take(SHOWN_CHARS).collect();
    FsError::new(
        FsErrorKind::NoSuchProtocol,
        format!("Unknown protocol: {name}, version {}", invocation.version),
    )
}
