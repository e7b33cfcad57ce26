//! Hosts with restrictions: each case runs in a child process that first restricts itself with a seccomp
//! filter or a resource limit, and then needs its fallback.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the child's output is what its parent reads")]

mod driver_rig;

use std::{
    env,
    future::Future,
    net::UdpSocket,
    os::fd::AsRawFd,
    pin::pin,
    process::{Command, Stdio},
    task::Context,
    time::{Duration, Instant},
};

use corewire_engine::{
    EngineConfig, HostedEngine, Idle, NextTurn, PollThread, ShardState,
    affinity::{self, Cpus, Unpinned},
    driver::{Driver, DriverConfig, DriverKind, DriverOpenError, IoChoice, Unavailable, open},
    node::{Node, NodeConfig},
};
use corewire_proto::NetworkId;
use corewire_testkit::{CountingWaker, LIMIT};
use driver_rig::{Arm, Rig, Side, pattern};

/// Names the case to the child.
const CASE: &str = "COREWIRE_DENIED_CASE";

/// Runs `case` in a child process and gives what it printed.
fn run(case: &str) -> String {
    let child = Command::new(env::current_exe().unwrap())
        .args(["--exact", "child", "--ignored", "--nocapture", "--test-threads=1"])
        .env(CASE, case)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let printed = [&child.stdout[..], &child.stderr].concat();
    let printed = String::from_utf8_lossy(&printed).into_owned();
    assert!(child.status.success(), "the child of case {case} failed:\n{printed}");
    assert!(printed.contains("case done"), "the child of case {case} did not run:\n{printed}");
    printed
}

#[test]
fn a_seccomp_filter_that_forbids_io_uring_leads_to_epoll_with_the_reason() {
    let printed = run("setup-eperm");
    assert!(printed.contains("epoll instead of io_uring: a seccomp filter forbids it"), "{printed}");
}

#[test]
fn a_seccomp_filter_that_denies_that_io_uring_exists_is_seen_through() {
    run("setup-enosys");
}

#[test]
fn a_filter_that_forbids_only_the_use_of_a_ring_leads_to_epoll_too() {
    run("enter-eperm");
    run("register-eperm");
}

#[test]
fn io_uring_by_name_is_a_typed_error_where_it_is_forbidden() {
    run("by-name");
}

#[test]
fn too_little_locked_memory_leads_to_epoll_and_names_the_limit() {
    run("memlock");
}

#[test]
fn a_thread_that_may_not_be_pinned_goes_on_unpinned() {
    run("no-pin");
}

#[test]
fn epoll_without_precise_waits_still_keeps_its_times() {
    run("no-pwait2");
}

#[test]
fn a_host_without_trains_sends_and_receives_one_by_one() {
    run("no-trains");
}

#[test]
fn a_refused_train_arrives_one_by_one() {
    run("refused-train");
}

#[test]
fn a_full_send_buffer_keeps_the_datagram_staged() {
    run("send-eagain");
}

#[test]
fn a_sandbox_entered_after_the_start_ends_the_shard_with_the_reason() {
    run("late-enter");
    run("late-epoll");
    run("late-receive");
    run("late-timer");
}

#[test]
fn a_poll_thread_that_may_not_wait_lets_its_task_look() {
    run("no-poll");
}

#[test]
fn a_sandbox_that_forbids_only_precise_waits_ends_no_shard() {
    run("late-pwait2");
}

#[test]
fn drivers_leave_no_descriptor_behind() {
    run("descriptors");
}

#[test]
#[ignore = "the body of the other tests, run by them in a child process"]
fn child() {
    let Ok(case) = env::var(CASE) else { return };
    match &case[..] {
        "setup-eperm" => {
            deny(&[Rule::call(libc::SYS_io_uring_setup)], libc::EPERM);
            println!("{}", falls_back_to_epoll());
        }
        "setup-enosys" => {
            deny(&[Rule::call(libc::SYS_io_uring_setup)], libc::ENOSYS);
            let reason = falls_back_to_epoll();
            // A kernel without the sysctl can't be told from one without io_uring.
            let tells = std::fs::exists("/proc/sys/kernel/io_uring_disabled").unwrap();
            assert!(reason.contains(if tells { "seccomp" } else { "CONFIG_IO_URING" }), "{reason}");
        }
        "enter-eperm" => {
            deny(&[Rule::call(libc::SYS_io_uring_enter)], libc::EPERM);
            assert!(falls_back_to_epoll().contains("seccomp"));
        }
        "register-eperm" => {
            deny(&[Rule::call(libc::SYS_io_uring_register)], libc::EPERM);
            assert!(falls_back_to_epoll().contains("seccomp"));
        }
        "by-name" => {
            deny(&[Rule::call(libc::SYS_io_uring_setup)], libc::EPERM);
            let refused = open(IoChoice::Uring, &DriverConfig::default());
            assert!(matches!(refused, Err(DriverOpenError::Uring(Unavailable::Seccomp))), "{refused:?}");
        }
        "memlock" => memlock(),
        "no-pin" => {
            deny(&[Rule::call(libc::SYS_sched_setaffinity)], libc::EPERM);
            let before = Cpus::detect().allowed;
            let refused = affinity::pin(before[0]);
            assert!(matches!(refused, Err(Unpinned::Refused { .. })), "{refused:?}");
            assert_eq!(Cpus::detect().allowed, before);
        }
        "no-pwait2" => rough_waits(),
        "no-trains" => {
            let rules = [
                Rule::option(libc::SYS_getsockopt, libc::SOL_UDP, libc::UDP_SEGMENT),
                Rule::option(libc::SYS_setsockopt, libc::SOL_UDP, libc::UDP_GRO),
            ];
            deny(&rules, libc::ENOPROTOOPT);
            for arm in [Arm::Epoll, Arm::Uring] {
                assert_eq!(traffic(arm), (0, 0), "{arm:?} used trains");
            }
        }
        "refused-train" => {
            for arm in [Arm::Epoll, Arm::Uring] {
                refused_train(arm);
            }
        }
        "late-enter" => fails_late(IoChoice::Uring, &[libc::SYS_io_uring_enter]),
        "late-epoll" => fails_late(IoChoice::Epoll, EPOLL_WAITS),
        "late-receive" => fails_late(IoChoice::Epoll, &[libc::SYS_recvmmsg]),
        "late-timer" => loses_its_timer(),
        "no-poll" => polls_without_poll(),
        "late-pwait2" => {
            let mut driver = open(IoChoice::Epoll, &DriverConfig::default()).unwrap().driver;
            deny(&[Rule::call(libc::SYS_epoll_pwait2)], libc::EPERM);
            let until = driver.now() + Duration::from_micros(1500);
            while driver.now() < until {
                driver.park(Some(until));
                driver.submit().unwrap();
            }
            traffic(Arm::Epoll);
        }
        "send-eagain" => send_eagain(),
        "descriptors" => descriptors(),
        other => panic!("no case {other}"),
    }
    println!("case done");
}

/// Opens with the automatic choice, checks that it is epoll and works, and gives the reason.
fn falls_back_to_epoll() -> String {
    let opened = open(IoChoice::Auto, &DriverConfig::default()).unwrap();
    assert_eq!(opened.driver.kind(), DriverKind::Epoll);
    let reason = opened.fallback.expect("a fallback has a reason");
    assert_eq!(reason.lines().count(), 1, "{reason}");
    traffic(Arm::Uring);
    reason
}

/// Sends a train and a datagram; gives how many trains were sent and received.
fn traffic(arm: Arm) -> (u64, u64) {
    let mut rig = Rig::new(arm);
    let (a, b) = (rig.add(Side::A), rig.add(Side::B));
    let bytes = pattern(1, 20 * 500 + 3);
    rig.send(Side::A, a.id, b.address, &bytes, 500);
    rig.send(Side::A, a.id, b.address, &bytes, bytes.len());
    let got = rig.collect(Side::B, 22);
    assert!(got[..21].iter().map(|datagram| &datagram.bytes[..]).eq(bytes.chunks(500)));
    assert!(got[21].bytes == bytes);
    (rig.driver(Side::A).counters().sent_trains, rig.driver(Side::B).counters().received_trains)
}

/// A socket that sends no checksums cannot send trains: the kernel refuses them at the send.
fn refused_train(arm: Arm) {
    let mut rig = Rig::new(arm);
    let b = rig.add(Side::B);
    let socket = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
    let (fd, one, size) = (socket.as_raw_fd(), 1i32, size_of::<i32>() as libc::socklen_t);
    // SAFETY: `one` is readable for its size.
    let answer =
        unsafe { libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_NO_CHECK, (&raw const one).cast(), size) };
    assert_eq!(answer, 0);
    let a = rig.driver(Side::A).add_socket(socket.into()).unwrap();
    for round in 0..5 {
        let bytes = pattern(round, 10 * 700);
        rig.send(Side::A, a, b.address, &bytes, 700);
        let got = rig.collect(Side::B, 10);
        assert!(got.iter().map(|datagram| &datagram.bytes[..]).eq(bytes.chunks(700)), "{arm:?} {round}");
    }
    let counters = rig.driver(Side::A).counters();
    assert_eq!((counters.sent_split, counters.sent_datagrams, counters.sent_trains), (5, 50, 0), "{arm:?}");
}

fn rough_waits() {
    deny(&[Rule::call(libc::SYS_epoll_pwait2)], libc::ENOSYS);
    let mut driver = open(IoChoice::Epoll, &DriverConfig::default()).unwrap().driver;
    assert!(!driver.features().has("epoll_pwait2"));
    let start = driver.now();
    let asked = Duration::from_micros(1500);
    driver.park(Some(start + asked));
    assert!(driver.now() - start >= asked);
    traffic(Arm::Epoll);
}

/// All ways to wait for an epoll set.
const EPOLL_WAITS: &[libc::c_long] = &[
    libc::SYS_epoll_pwait2,
    libc::SYS_epoll_pwait,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
];

/// A driver that loses `calls` after its start.
fn fails_late(io: IoChoice, calls: &[libc::c_long]) {
    let config = EngineConfig { io, ..EngineConfig::default() };
    // A host without io_uring has nothing to lose.
    let Ok(hosted) = HostedEngine::start(config) else { return };
    let node = NodeConfig::new(NetworkId([1; 32]));
    let _node = Node::join(hosted.engine(), node).unwrap();
    while hosted.turn() == NextTurn::Now {}
    deny(&calls.iter().map(|call| Rule::call(*call)).collect::<Vec<_>>(), libc::EPERM);
    for _ in 0..1_000 {
        hosted.turn();
        hosted.sleep(Some(Duration::from_millis(1)));
        if hosted.is_over() {
            return failed_with_the_reason(&hosted);
        }
    }
    panic!("the shard goes on without its driver");
}

/// A host whose own loop sleeps, and may no longer set the time of the next turn.
fn loses_its_timer() {
    let hosted = HostedEngine::start(EngineConfig::default()).unwrap();
    deny(&[Rule::call(libc::SYS_timerfd_settime)], libc::EPERM);
    for _ in 0..1_000 {
        hosted.turn();
        // The first one has to change the time.
        assert_eq!(hosted.prepare_sleep(), NextTurn::Now, "a sleep without an end");
        if hosted.is_over() {
            return failed_with_the_reason(&hosted);
        }
    }
    panic!("the shard goes on without a timer");
}

/// A thread that waits for descriptors, and may not.
fn polls_without_poll() {
    let hosted = HostedEngine::start(EngineConfig { idle: Idle::Park, ..EngineConfig::default() }).unwrap();
    deny(&[Rule::call(libc::SYS_ppoll)], libc::EPERM);
    let mut run = hosted.run(PollThread::start(&hosted).unwrap());
    let (counter, waker) = CountingWaker::pair();
    let start = Instant::now();
    for polls in 1..=10 {
        assert!(pin!(&mut run).poll(&mut Context::from_waker(&waker)).is_pending());
        while counter.wakes() < polls {
            assert!(start.elapsed() < LIMIT, "the task sleeps on");
            std::thread::yield_now();
        }
    }
}

fn failed_with_the_reason(hosted: &HostedEngine) {
    let state = hosted.engine().info().shards[0].state.clone();
    let ShardState::DriverFailed { message } = state else { panic!("{state:?}") };
    assert!(message.contains("not permitted") && message.contains("sandbox"), "{message}");
}

fn send_eagain() {
    deny(&[Rule::call(libc::SYS_sendmmsg)], libc::EAGAIN);
    let mut rig = Rig::with(Arm::Epoll, DriverConfig { leases: 3, ..DriverConfig::default() });
    let (a, b) = (rig.add(Side::A), rig.add(Side::B));
    for _ in 0..3 {
        rig.send(Side::A, a.id, b.address, &[1], 1);
    }
    for _ in 0..5 {
        rig.pass(Side::A);
    }
    let counters = rig.driver(Side::A).counters();
    assert!(rig.driver(Side::A).lease().is_none(), "what waits keeps its lease");
    assert!(counters.send_waited >= 1 && counters.sent_datagrams == 0, "{counters:?}");
    assert_eq!(counters.send_errors + counters.send_no_room, 0);
    // What waits for a socket that goes away is given up, and its memory comes back.
    rig.driver(Side::A).remove_socket(a.id);
    rig.driver(Side::A).submit().unwrap();
    assert_eq!(rig.driver(Side::A).counters().send_refused, 3);
    assert!(rig.driver(Side::A).lease().is_some());
}

fn descriptors() {
    let count = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    for arm in [Arm::Epoll, Arm::Uring] {
        // The first may open what the process keeps.
        drop(Rig::new(arm));
        let before = count();
        for _ in 0..30 {
            traffic(arm);
            let mut rig = Rig::new(arm);
            let end = rig.add(Side::A);
            drop(rig.driver(Side::A).waker());
            rig.driver(Side::A).remove_socket(end.id);
            rig.add(Side::B);
        }
        assert_eq!(count(), before, "{arm:?}");
    }
}

fn memlock() {
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `none` is readable; the other calls take no memory. Privilege lifts the limit: it is dropped.
    unsafe {
        assert_eq!(libc::setrlimit(libc::RLIMIT_MEMLOCK, &none), 0);
        if libc::geteuid() == 0 {
            assert_eq!(libc::setresuid(65_534, 65_534, 65_534), 0);
        }
    }
    match open(IoChoice::Uring, &DriverConfig::default()) {
        Err(DriverOpenError::Uring(Unavailable::Memory { limit: Some(0) })) => {
            let reason = falls_back_to_epoll();
            assert!(reason.contains("0 KiB") && reason.contains("ulimit -l"), "{reason}");
        }
        // Kernels that account ring memory elsewhere do not refuse; hosts without io_uring refuse earlier.
        other => println!("not refused for memory on this host: {other:?}"),
    }
}

/// A system call, and optionally the level and name of a socket option.
struct Rule {
    call: libc::c_long,
    option: Option<(libc::c_int, libc::c_int)>,
}

impl Rule {
    fn call(call: libc::c_long) -> Self {
        Self { call, option: None }
    }

    fn option(call: libc::c_long, level: libc::c_int, name: libc::c_int) -> Self {
        Self { call, option: Some((level, name)) }
    }
}

/// Installs a seccomp filter that answers `errno` to what `rules` name, for this thread and those it starts.
fn deny(rules: &[Rule], errno: libc::c_int) {
    const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    // `struct seccomp_data`: { int nr; u32 arch; u64 ip; u64 args[6]; }; the low halves of arguments 1 and 2.
    const NUMBER: u32 = 0;
    const LEVEL: u32 = 24;
    const NAME: u32 = 32;
    let step = |code, k, jt, jf| libc::sock_filter { code, jt, jf, k };
    let mut filter = Vec::new();
    for rule in rules {
        // Every test that fails jumps over the rest of its rule.
        let tests: Vec<(u32, u32)> = std::iter::once((NUMBER, rule.call as u32))
            .chain(
                rule.option
                    .into_iter()
                    .flat_map(|(level, name)| [(LEVEL, level as u32), (NAME, name as u32)]),
            )
            .collect();
        for (index, &(at, value)) in tests.iter().enumerate() {
            let rest = (tests.len() - 1 - index) * 2 + 1;
            filter.push(step(LOAD, at, 0, 0));
            filter.push(step(EQUAL, value, 0, rest as u8));
        }
        filter.push(step(RETURN, libc::SECCOMP_RET_ERRNO | errno as u32, 0, 0));
    }
    filter.push(step(RETURN, libc::SECCOMP_RET_ALLOW, 0, 0));
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: `program` and its instructions live until the call has copied them.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        let mode = libc::SECCOMP_MODE_FILTER;
        assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const program, 0, 0), 0);
    }
}
