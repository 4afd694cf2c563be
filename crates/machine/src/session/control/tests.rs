//! Tests of a session. The test plays the guest, and the targets of the output are slow or
//! fail.

use std::sync::mpsc::{Receiver, Sender, channel};

use nix::sys::signal::Signal;
use proto::workload::Phase;

use super::*;
use crate::session::channels::Channels;
use crate::session::foreground::Foreground;

/// Sends a slow target the result of its next call.
type Results = Sender<Result<(), Errno>>;

/// A slow target: `write` and `close` wait until the test sends their results.
struct SlowTarget {
    writes: Receiver<Result<(), Errno>>,
    closes: Receiver<Result<(), Errno>>,
}

impl OutputTarget for SlowTarget {
    fn write(&mut self, _: &[u8]) -> Result<(), Errno> {
        self.writes.recv().unwrap_or(Ok(()))
    }

    fn close(&mut self) -> Result<(), Errno> {
        self.closes.recv().unwrap_or(Ok(()))
    }
}

/// A session with a guest that sends `lines` and writes `output` to stream `at` (an index of
/// `STREAMS`), whose target is slow.
fn slow_session(
    lines: &str,
    at: usize,
    output: &[u8],
) -> (CommandSession, Vec<UnixStream>, [Results; 2]) {
    let Channels { ours, qemus } = Channels::new(0).unwrap();
    let mut ends: Vec<_> = qemus.into_iter().map(|(_, fd)| UnixStream::from(fd)).collect();
    ends[0].write_all(lines.as_bytes()).unwrap();
    ends[at].write_all(output).unwrap();
    let ((write, writes), (close, closes)) = (channel(), channel());
    let other = SlowTarget { writes: channel().1, closes: channel().1 };
    let slow: Box<dyn OutputTarget> = Box::new(SlowTarget { writes, closes });
    let targets = if at == 2 { [slow, Box::new(other)] } else { [Box::new(other), slow] };
    let [control, ports @ ..] = ours;
    let streams = Streams::start_to(ports, false, targets).unwrap();
    let mut session = CommandSession::with(control, streams).unwrap();
    session.show_output();
    (session, ends, [write, close])
}

/// A session with a guest that sends `lines` and writes `output` to its standard output.
fn session(lines: &str, output: &[u8]) -> (CommandSession, Vec<UnixStream>) {
    let (session, ends, _) = slow_session(lines, 2, output);
    (session, ends)
}

fn is_waiting(session: &mut CommandSession) -> bool {
    for _ in 0..20 {
        session.update();
        std::thread::sleep(Duration::from_millis(2));
    }
    session.is_delivering()
}

#[test]
fn a_session_ends_after_its_output_is_written() {
    for (at, lines) in [(2, "started 1 2\nexited 0 2 0\n"), (3, "started 1 2\nexited 0 0 2\n")] {
        for (written, closed, end) in [
            (Ok(()), Ok(()), SessionState::Ended(0)),
            (Err(Errno::ENOSPC), Ok(()), SessionState::Unwritten(Errno::ENOSPC)),
            (Err(Errno::EIO), Ok(()), SessionState::Unwritten(Errno::EIO)),
            (Err(Errno::EPIPE), Ok(()), SessionState::Ended(0)),
            (Ok(()), Err(Errno::EDQUOT), SessionState::Unwritten(Errno::EDQUOT)),
        ] {
            let (mut session, ends, [write, close]) = slow_session(lines, at, b"xx");
            assert!(is_waiting(&mut session), "{at} {written:?}");
            // The machine may end meanwhile.
            drop(ends);
            write.send(written).unwrap();
            if written.is_ok() {
                assert!(is_waiting(&mut session), "{at} {closed:?}");
            }
            let _ = close.send(closed); // nobody asks after an error
            wait(&mut session, |state| *state != SessionState::Running);
            assert_eq!(*session.state(), end, "{at} {written:?} {closed:?}");
            session.update();
            assert_eq!(*session.state(), end);
        }
    }
}

#[test]
fn an_unknown_status_from_the_guest_counts_as_trouble() {
    for (lines, end) in [
        ("failed 0 no\n", SessionState::Failed(125, "no".into())),
        ("failed 124 no\n", SessionState::Failed(125, "no".into())),
        ("failed 126 no\n", SessionState::Failed(126, "no".into())),
        ("failed 255 no\n", SessionState::Failed(125, "no".into())),
        ("exited 0 0 0\nfailed 127 no\n", SessionState::Failed(127, "no".into())),
    ] {
        let (mut session, _ends) = session(lines, b"");
        wait(&mut session, |state| *state != SessionState::Booting);
        assert_eq!(*session.state(), end, "{lines}");
    }
}

fn wait(session: &mut CommandSession, wanted: impl Fn(&SessionState) -> bool) {
    for _ in 0..2000 {
        session.update();
        if wanted(session.state()) {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("the session stays {:?}", session.state());
}

#[test]
fn a_status_counts_once_the_output_has_arrived() {
    let (mut session, mut ends) = session("started 1 2\nexited 42 2 0\n", b"");
    wait(&mut session, |state| matches!(state, SessionState::Running));
    session.update();
    assert!(matches!(session.state(), SessionState::Running));
    ends[2].write_all(b"\r\n").unwrap();
    wait(&mut session, |state| *state == SessionState::Ended(42));
}

#[test]
fn a_failure_and_a_lost_guest_have_states_of_their_own() {
    let (mut failing, _ends) = session("failed 127 execute x: not found\n", b"");
    let failed = SessionState::Failed(127, "execute x: not found".into());
    wait(&mut failing, |state| *state == failed);
    let (mut runs, _ends) = session("started 1 2\nexited 3 0 0\nfailed 0 no\n", b"");
    wait(&mut runs, |state| !matches!(state, SessionState::Booting | SessionState::Running));
    assert_eq!(*runs.state(), SessionState::Ended(3));
    let (mut lost, ends) = session("nonsense\nexited\n", b"");
    drop(ends);
    wait(&mut lost, |state| *state == SessionState::Lost);
}

#[test]
fn a_guest_that_sends_without_end_does_not_block_updates() {
    for flood in [&b"\n"[..], b"x"] {
        let (mut session, mut ends) = session("started 1 2\n", b"");
        let mut control = ends.swap_remove(0);
        let flood = flood.repeat(64 << 10);
        let flooder = std::thread::spawn(move || while control.write_all(&flood).is_ok() {});
        wait(&mut session, |state| matches!(state, SessionState::Running));
        for _ in 0..100 {
            session.update();
        }
        drop(session);
        flooder.join().unwrap();
    }
}

#[test]
fn messages_reach_the_guest() {
    let (mut session, mut ends) = session("", b"");
    session.resize(Size { rows: 5, columns: 9 });
    session.request(b"arg=ls\0");
    let mut text = [0; 26];
    ends[0].read_exact(&mut text).unwrap();
    assert_eq!(&text, b"resize 5 9\nrequest 7\narg=l");
}

/// A guest may report a workload at any time, in any order.
#[test]
fn the_last_state_of_a_workload_counts() {
    let lines = "workload 0 0 0 0 5000\nstarted 1 2\nworkload 1 1 0 0 5000\nworkload 9 0 0 0 0\n";
    let (mut session, mut ends) = session(lines, b"");
    let phase = |session: &CommandSession| session.workload().map(|it| it.state().phase);
    assert_eq!((phase(&session), session.since()), (None, None));
    wait(&mut session, |state| *state == SessionState::Running);
    assert_eq!(phase(&session), Some(Phase::Running));
    let began = session.workload().unwrap().since().unwrap();
    assert!(session.since().unwrap() <= began);
    ends[0].write_all(b"workload 2 0 3 7 5000\nexited 7 0 0\n").unwrap();
    wait(&mut session, |state| *state == SessionState::Ended(7));
    let state = *session.workload().unwrap().state();
    assert_eq!((state.phase, state.restarts, state.status), (Phase::Pausing, 3, 7));
}

/// Whatever the signal, a workload ends for good, in its own time.
#[test]
fn a_workload_gets_its_own_time_to_end() {
    let lines = "workload 1 0 0 0 60000\nstarted 1 2\n";
    let (mut session, mut ends) = session(lines, b"");
    wait(&mut session, |state| *state == SessionState::Running);
    let mut foreground = Foreground::new(session, None);
    let before = Instant::now();
    assert_eq!(foreground.handle(Signal::SIGINT).unwrap(), None);
    let mut text = [0; 9];
    ends[0].set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    ends[0].read_exact(&mut text).unwrap();
    assert_eq!(&text, b"signal 2\n");
    assert!(foreground.is_ending() && foreground.expired().is_none());
    assert!(foreground.deadline().unwrap() > before + Duration::from_secs(60));
    // The second signal ends the machine.
    assert_eq!(foreground.handle(Signal::SIGHUP).unwrap(), Some(Signal::SIGHUP));
}
