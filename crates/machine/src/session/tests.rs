//! A session against a guest that a test plays, and targets that are slow or fail.

use std::sync::mpsc::{Receiver, Sender, channel};

use super::*;
use crate::session::channels::Channels;
use crate::session::streams::Target;

/// Tells a slow target how its next call ends.
type Results = Sender<Result<(), Errno>>;

/// A target that is slow: `write` and `close` end once they are told their results.
struct Slow {
    writes: Receiver<Result<(), Errno>>,
    closes: Receiver<Result<(), Errno>>,
}

impl Target for Slow {
    fn write(&mut self, _: &[u8]) -> Result<(), Errno> {
        self.writes.recv().unwrap_or(Ok(()))
    }

    fn close(&mut self) -> Result<(), Errno> {
        self.closes.recv().unwrap_or(Ok(()))
    }
}

/// A guest that says `lines` and writes `output` to stream `at`, whose target is slow.
fn slow_session(lines: &str, at: usize, output: &[u8]) -> (Session, Vec<UnixStream>, [Results; 2]) {
    let (ours, theirs) = Channels::new(0).unwrap().split();
    let mut ends: Vec<_> = theirs.into_iter().map(|(_, fd)| UnixStream::from(fd)).collect();
    ends[0].write_all(lines.as_bytes()).unwrap();
    ends[at].write_all(output).unwrap();
    let ((write, writes), (close, closes)) = (channel(), channel());
    let other = Slow { writes: channel().1, closes: channel().1 };
    let slow: Box<dyn Target> = Box::new(Slow { writes, closes });
    let targets = if at == 2 { [slow, Box::new(other)] } else { [Box::new(other), slow] };
    let [control, ports @ ..] = ours;
    let streams = Streams::start_to(ports, false, targets).unwrap();
    (Session::with(control, streams).unwrap(), ends, [write, close])
}

/// A guest that says `lines` and writes `output` to its standard output.
fn session(lines: &str, output: &[u8]) -> (Session, Vec<UnixStream>) {
    let (session, ends, _) = slow_session(lines, 2, output);
    (session, ends)
}

fn is_waiting(session: &mut Session) -> bool {
    for _ in 0..20 {
        session.update();
        std::thread::sleep(Duration::from_millis(2));
    }
    session.is_delivering()
}

#[test]
fn an_end_waits_for_what_is_written_slowly() {
    for (at, lines) in [(2, "started 1 2\nexited 0 2 0\n"), (3, "started 1 2\nexited 0 0 2\n")] {
        for (written, closed, end) in [
            (Ok(()), Ok(()), State::Ended(0)),
            (Err(Errno::ENOSPC), Ok(()), State::Unwritten(Errno::ENOSPC)),
            (Err(Errno::EIO), Ok(()), State::Unwritten(Errno::EIO)),
            (Err(Errno::EPIPE), Ok(()), State::Ended(0)),
            (Ok(()), Err(Errno::EDQUOT), State::Unwritten(Errno::EDQUOT)),
        ] {
            let (mut session, ends, [write, close]) = slow_session(lines, at, b"xx");
            assert!(is_waiting(&mut session), "{at} {written:?}");
            // Also when the machine is gone meanwhile.
            drop(ends);
            write.send(written).unwrap();
            if written.is_ok() {
                assert!(is_waiting(&mut session), "{at} {closed:?}");
            }
            let _ = close.send(closed); // not asked after an error
            wait(&mut session, |state| *state != State::Running);
            assert_eq!(*session.state(), end, "{at} {written:?} {closed:?}");
            session.update();
            assert_eq!(*session.state(), end);
        }
    }
}

#[test]
fn only_the_statuses_of_init_are_believed() {
    for (lines, end) in [
        ("failed 0 no\n", State::Failed(125, "no".into())),
        ("failed 124 no\n", State::Failed(125, "no".into())),
        ("failed 126 no\n", State::Failed(126, "no".into())),
        ("failed 255 no\n", State::Failed(125, "no".into())),
        ("exited 0 0 0\nfailed 127 no\n", State::Failed(127, "no".into())),
    ] {
        let (mut session, _ends) = session(lines, b"");
        wait(&mut session, |state| *state != State::Booting);
        assert_eq!(*session.state(), end, "{lines}");
    }
}

fn wait(session: &mut Session, wanted: impl Fn(&State) -> bool) {
    for _ in 0..2000 {
        session.update();
        if wanted(session.state()) {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("it stays {:?}", session.state());
}

#[test]
fn a_status_holds_once_the_output_is_here() {
    let (mut session, mut ends) = session("started 1 2\nexited 42 2 0\n", b"");
    wait(&mut session, |state| matches!(state, State::Running));
    session.update();
    assert!(matches!(session.state(), State::Running));
    ends[2].write_all(b"\r\n").unwrap();
    wait(&mut session, |state| *state == State::Ended(42));
}

#[test]
fn a_failure_and_a_lost_guest_are_told_apart() {
    let (mut session_, _ends) = session("failed 127 execute x: not found\n", b"");
    let failed = State::Failed(127, "execute x: not found".into());
    wait(&mut session_, |state| *state == failed);
    let (mut runs, _ends) = session("started 1 2\nexited 3 0 0\nfailed 0 no\n", b"");
    wait(&mut runs, |state| !matches!(state, State::Booting | State::Running));
    assert_eq!(*runs.state(), State::Ended(3));
    let (mut lost, ends) = session("nonsense\nexited\n", b"");
    drop(ends);
    wait(&mut lost, |state| *state == State::Lost);
}

#[test]
fn a_guest_that_talks_without_end_is_cut_short() {
    for flood in [&b"\n"[..], b"x"] {
        let (mut session, mut ends) = session("started 1 2\n", b"");
        let mut control = ends.swap_remove(0);
        let flood = flood.repeat(64 << 10);
        let flooder = std::thread::spawn(move || while control.write_all(&flood).is_ok() {});
        wait(&mut session, |state| matches!(state, State::Running));
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
