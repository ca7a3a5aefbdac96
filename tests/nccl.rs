//! Sums by NCCL without a GPU: libnccl.so and libcuda.so are fakes (tests/nccl) that sum host
//! memory and write down each call. The ranks are this very program, started again by mpirun.
#![cfg(feature = "mpi")]

use std::{
    collections::BTreeSet,
    env, fs,
    io::Write,
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use atlas::{
    base::{Error, Result, host},
    config::{self, Backend, Head, Stem, Wire},
    distributed::{self, Comm, Op, Ticket, World, nccl, watchdog::Limit},
    network::model::{DropKeys, Mode, Network, Norms, Precision, Spec},
    training::backward::SyncedGradients,
};
use tch::{Device, Kind, Tensor};

#[path = "ranks/launcher.rs"]
mod launcher;

// ---- The ranks ----

#[test]
#[ignore = "a rank that other tests start"]
fn worker() {
    let task = env::var("NCCL_TASK").expect("a test that starts ranks sets it");
    let keys = config::Comm { backend: Backend::Mpi, ..Default::default() };
    let host = distributed::start(&keys).unwrap();
    let world = match nccl::over(Box::new(Noted(host)), host.rank()) {
        Ok(comm) => World::new(comm, host.watchdog().clone()).watched(),
        Err(e) => {
            note(host.rank(), &format!("fails: {e}"));
            host.close();
            std::process::exit(e.exit_code().into());
        }
    };
    tch::set_num_threads(1);
    match &*task {
        "steps" => steps(host, world),
        "wait" => {
            let wait = || {
                thread::sleep(Duration::from_secs(60));
                Ok::<_, Error>(())
            };
            world.watchdog().during("a long wait", Limit::None, wait).unwrap();
        }
        other => panic!("no task {other}"),
    }
    world.close();
    thread::sleep(Duration::from_millis(200)); // the watchdog goes on checking
    world.health().unwrap();
}

/// A line in the log of the fakes, which is in the order of the calls.
fn note(rank: usize, what: &str) {
    let mut log = fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(env::var("FAKE_LOG").unwrap())
        .unwrap();
    log.write_all(format!("{rank} {what}\n").as_bytes()).unwrap();
}

/// The communicator on the host, with notes on what is asked of it.
struct Noted(&'static World);

impl Comm for Noted {
    fn rank(&self) -> usize {
        self.0.rank()
    }
    fn size(&self) -> usize {
        self.0.size()
    }
    fn broadcast(&self, bytes: &mut [u8]) -> Result<()> {
        note(self.rank(), &format!("host broadcast {}", bytes.len()));
        self.0.broadcast(bytes)
    }
    fn barrier(&self) -> Result<()> {
        note(self.rank(), "host barrier");
        self.0.barrier()
    }
    fn begin(&self, _: &Tensor) -> Result<Ticket> {
        panic!("tensors are NCCL's")
    }
    fn finish(&self, _: Ticket) -> Result<()> {
        panic!("tensors are NCCL's")
    }
    fn all_reduce(&self, values: &mut [f64], op: Op) -> Result<()> {
        self.0.all_reduce(values, op)
    }
    fn abort(&self, code: i32) -> ! {
        self.0.abort(code)
    }
    fn close(&self) {
        note(self.rank(), "host close");
        self.0.close();
    }
}

/// The sums of two steps for each kind of wire, against sums on the host; one from another thread,
/// and one of a temporary.
fn steps(host: &'static World, world: &'static World) {
    let (rank, size) = (host.rank(), host.size() as f64);
    let spec = Spec {
        arch: "se_resnext_tiny".into(),
        stem: Stem::Standard,
        head: Head::Linear,
        channels: 4,
        classes: 28,
        dropout: 0.0,
    };
    let network = Network::new(&spec, 0, false, Device::Cpu).unwrap();
    let buckets: Vec<_> = network
        .stages()
        .into_iter()
        .map(|(_, at)| format!("{}+{}", at.start, at.end - at.start))
        .collect();
    let place = format!("{:?} {}", network.flat_gradients().data_ptr(), buckets.join(","));
    let keys: Vec<u64> = (0..4).collect();
    for wire in [Wire::F32, Wire::Bf16] {
        let gradients = SyncedGradients::new(&network, world, wire);
        for step in 0..2 {
            tch::manual_seed(10 * step + rank as i64);
            let x = Tensor::randn([4, 4, 32, 32], (Kind::Float, Device::Cpu));
            let mode = Mode::Train(DropKeys { seed: 0, epoch: 0, keys: &keys }, Norms::Local);
            let loss = || network.forward(&x, mode, Precision::F32).square().mean(Kind::Float);

            note(rank, "not armed");
            network.zero_gradients();
            loss().backward();
            let own = network.flat_gradients().copy();
            let wired = if wire == Wire::Bf16 && size > 1.0 {
                own.to_kind(Kind::BFloat16)
            } else {
                own.copy()
            };
            host.sum(&wired);

            note(rank, &format!("armed {wire:?} {place}"));
            network.zero_gradients();
            gradients.arm(None);
            let backward = || {
                loss().backward();
                Ok::<_, Error>(())
            };
            world.watchdog().during("backward pass", Limit::Usual, backward).unwrap();
            note(rank, "finish");
            gradients.finish().unwrap();
            note(rank, "finished");

            // In f32 the host may sum in another order.
            let off = |t: &Tensor| {
                ((network.flat_gradients() - t).abs().max() / t.abs().max()).double_value(&[])
            };
            let (off, off_alone) = (off(&wired.to_kind(Kind::Float)), off(&own));
            assert!(
                off <= if wire == Wire::F32 { 1e-6 } else { 0.0 },
                "rank {rank}, {wire:?}, step {step}: off by {off}"
            );
            assert!(
                size < 2.0 || off_alone > 0.1,
                "rank {rank}: the sum is hardly more than what this rank had: {off_alone}"
            );
        }
    }

    // CUDA's context belongs to a thread, and autograd has a thread of its own.
    let values = Tensor::from_slice(&[rank as f64 + 1.0, 1e-300, 1.0 / 3.0]);
    let theirs = values.shallow_clone();
    let ticket = thread::spawn(move || world.begin(&theirs).unwrap()).join().unwrap();
    world.finish(ticket).unwrap();
    assert_eq!(
        Vec::<f64>::try_from(&values).unwrap()[..2],
        [size * (size + 1.0) / 2.0, size * 1e-300]
    );

    let temporary = Tensor::ones([10_000], (Kind::Float, Device::Cpu));
    let at = temporary.data_ptr();
    let ticket = world.begin(&temporary).unwrap();
    drop(temporary);
    let others: Vec<_> =
        (0..20).map(|_| Tensor::ones([10_000], (Kind::Float, Device::Cpu))).collect();
    assert!(
        others.iter().all(|t| t.data_ptr() != at),
        "the memory of a bucket stays until its sum is there"
    );
    world.finish(ticket).unwrap();
}

// ---- The tests ----

/// How a job of workers ended.
struct Job {
    code: Option<i32>,
    said: String,
    /// The lines of the log: rank and call.
    log: Vec<(usize, String)>,
}

impl Job {
    fn of(&self, rank: usize) -> Vec<&str> {
        self.log.iter().filter(|l| l.0 == rank).map(|l| &*l.1).collect()
    }

    /// Whether it said all of these. One by one, since mpirun may put words of its own between
    /// those of a rank.
    fn says(&self, parts: &[&str]) -> bool {
        parts.iter().all(|part| self.said.contains(part))
    }
}

/// Builds the fakes and runs `task` on `ranks` ranks.
fn run(ranks: usize, task: &str, fail: &str, with_nccl: bool) -> Job {
    let folder = tempfile::tempdir().unwrap();
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/nccl");
    for name in ["cuda", "nccl"] {
        let mut cc = Command::new("cc");
        cc.args(["-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-pthread", "-o"])
            .arg(folder.path().join(format!("lib{name}.so")));
        assert!(
            cc.arg(sources.join(format!("fake_{name}.c"))).arg("-lrt").status().unwrap().success()
        );
    }
    if !with_nccl {
        fs::write(folder.path().join("libnccl.so"), "").unwrap(); // found first, and no library
    }
    let log = folder.path().join("log");
    let program = env::current_exe().unwrap();
    let launched = if ranks > 1 { launcher::mpirun(ranks, program) } else { Command::new(program) };
    let mut command = Command::new("timeout");
    command.arg("120").arg(launched.get_program()).args(launched.get_args());
    command.envs(launched.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.args(["--exact", "worker", "--ignored", "--nocapture", "--test-threads=1"]);
    command
        .env("LD_LIBRARY_PATH", folder.path())
        .env("FAKE_LOG", &log)
        .env("FAKE_NCCL_FAIL", fail)
        .env("NCCL_TASK", task);
    let out = command.env("OMP_NUM_THREADS", "1").output().unwrap();
    let log = fs::read_to_string(log).unwrap_or_default();
    let line = |l: &str| {
        l.split_once(' ').map(|(rank, call)| (rank.parse().unwrap(), call.to_string())).unwrap()
    };
    let said = String::from_utf8_lossy(&out.stdout) + String::from_utf8_lossy(&out.stderr);
    Job { code: out.status.code(), said: said.into(), log: log.lines().map(line).collect() }
}

/// The value of `name=` in a line of the log.
fn field<'a>(line: &'a str, name: &str) -> &'a str {
    let found = line.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    found.unwrap_or_else(|| panic!("no {name} in `{line}`"))
}

fn check_steps(ranks: usize) {
    let job = run(ranks, "steps", "", true);
    assert_eq!(job.code, Some(0), "{}", job.said);
    let ids: BTreeSet<_> =
        job.log.iter().filter(|l| l.1.contains(" id=")).map(|l| field(&l.1, "id")).collect();
    assert_eq!(ids.len(), 1, "{ids:?}");
    // Nobody enters NCCL before all are past the broadcast.
    let first = job.log.iter().position(|l| l.1.starts_with("ncclCommInitRank")).unwrap();
    assert_eq!(job.log[..first].iter().filter(|l| l.1 == "host barrier").count(), ranks);
    (0..ranks).for_each(|rank| check_rank(&job.of(rank), rank, ranks));
}

/// All that one rank called, from its start to its end.
fn check_rank(lines: &[&str], rank: usize, ranks: usize) {
    let stream = field(lines.iter().find(|l| l.starts_with("cuStreamCreate")).unwrap(), "stream");
    let id = field(lines.iter().find(|l| l.starts_with("ncclCommInitRank")).unwrap(), "id");
    let at = |what: &str| {
        lines
            .iter()
            .position(|l| l.starts_with(what))
            .unwrap_or_else(|| panic!("no {what}: {lines:#?}"))
    };

    let mut start = vec![
        "cuInit".into(),
        format!("cuDeviceGet index={rank}"),
        format!("cuDevicePrimaryCtxRetain device={rank}"),
        format!("cuStreamCreate stream={stream} flags=1"), // non-blocking
    ];
    if rank == 0 {
        start.push(format!("ncclGetUniqueId id={id}"));
    }
    start.extend(["host broadcast 128".into(), "host barrier".into()]);
    start.push(format!("ncclCommInitRank id={id} rank={rank} ranks={ranks}"));
    assert_eq!(lines[..at("not armed")], start);

    let created: Vec<_> = lines.iter().filter(|l| l.starts_with("cuEventCreate")).collect();
    let events: BTreeSet<_> = created.iter().map(|l| field(l, "event")).collect();
    assert!(created.iter().all(|l| field(l, "flags") == "2"), "without times: {created:?}");

    let armed: Vec<_> =
        lines.iter().enumerate().filter(|(_, l)| l.starts_with("armed")).map(|(i, _)| i).collect();
    assert_eq!(armed.len(), 4);
    for i in armed {
        assert_eq!(
            lines[i - 1],
            "not armed",
            "backward passes before the last one of a step send nothing"
        );
        check_step(&lines[i..], stream, ranks);
    }

    // One event for each sum that was under way at once, and all of them gone at the end.
    let after = &lines[at("ncclCommDestroy")..];
    let destroyed: BTreeSet<_> = after
        .iter()
        .filter(|l| l.starts_with("cuEventDestroy"))
        .map(|l| field(l, "event"))
        .collect();
    assert_eq!((events.len(), &destroyed), (created.len(), &events));
    let place: Vec<_> = lines[at("armed")].split(' ').collect();
    assert_eq!(created.len(), place[3].split(',').count(), "events serve again");
    let end = [
        format!("cuStreamDestroy stream={stream}"),
        format!("cuDevicePrimaryCtxRelease device={rank}"),
        "host close".into(),
    ];
    assert_eq!(after[1 + events.len()..], end);
}

/// `lines` begins with what the worker noted about a step; each bucket is summed once, behind what
/// libtorch computed before and ahead of what it computes after.
fn check_step(lines: &[&str], stream: &str, ranks: usize) {
    let [_, wire, arena, buckets] = lines[0].split(' ').collect::<Vec<_>>()[..] else {
        panic!("{}", lines[0])
    };
    let address = |text: &str| usize::from_str_radix(text.trim_start_matches("0x"), 16).unwrap();
    let bf16 = wire == "Bf16" && ranks > 1;
    let buckets: Vec<(usize, usize)> = buckets
        .split(',')
        .map(|b| b.split_once('+').unwrap())
        .map(|(start, n)| {
            (address(arena) + 4 * start.parse::<usize>().unwrap(), n.parse().unwrap())
        })
        .collect();
    assert!(buckets.len() > 3);
    let lines: Vec<_> = lines[1..]
        .iter()
        .take_while(|l| **l != "finished")
        .filter(|l| !l.starts_with("cuEventCreate"))
        .collect();
    let (begun, finished) = lines.split_at(4 * buckets.len());
    let mut events = Vec::new();
    let mut sent = BTreeSet::new();
    for (calls, (pointer, n)) in begun.chunks(4).zip(buckets.iter().rev()) {
        let event = field(calls[0], "event");
        let receive = field(calls[2], "receive");
        let kind = if bf16 { 9 } else { 7 };
        let sum = format!(
            "ncclAllReduce send={receive} receive={receive} count={n} type={kind} op=0 \
                stream={stream}"
        );
        let expected = [
            format!("cuEventRecord event={event} stream=0"),
            format!("cuStreamWaitEvent stream={stream} event={event} flags=0"),
            sum,
            format!("cuEventRecord event={event} stream={stream}"),
        ];
        assert_eq!(calls.iter().map(|l| l.to_string()).collect::<Vec<_>>(), expected);
        assert!(bf16 || address(receive) == *pointer, "bucket at {pointer:x}: {receive}");
        assert!(
            !events.contains(&event) && sent.insert(receive),
            "{event} or {receive} is still in use"
        );
        events.push(event);
    }
    let waits =
        events.iter().map(|event| format!("cuStreamWaitEvent stream=0 event={event} flags=0"));
    assert_eq!(
        finished.iter().map(|l| l.to_string()).collect::<Vec<_>>(),
        ["finish".into()].into_iter().chain(waits).collect::<Vec<_>>()
    );
}

#[test]
fn gradients_of_one_rank_are_unchanged() {
    check_steps(1);
}

#[test]
fn gradients_of_two_ranks_are_summed_stage_by_stage() {
    check_steps(2);
}

#[test]
fn gradients_of_four_ranks_are_summed_stage_by_stage() {
    check_steps(4);
}

#[test]
fn a_failed_sum_ends_the_job_with_its_rank_and_cause() {
    let job = run(2, "steps", "1:ncclAllReduce:3:2", true);
    let place = format!("rank 1 of 2 on {}, backward pass", host::name());
    // From NCCL: its name of the error and its last message. From us: what to do.
    let cause = ["NCCL: ncclAllReduce: unhandled system error", "(the test wants it)", "/dev/shm"];
    assert!(
        job.code == Some(1) && job.says(&["atlas: ", &place]) && job.says(&cause),
        "{:?}: {}",
        job.code,
        job.said
    );
    assert!(!job.said.contains("panicked"), "{}", job.said);
}

#[test]
fn the_watchdog_sees_an_error_that_no_call_returns() {
    let since = Instant::now();
    let job = run(2, "wait", "1:ncclCommGetAsyncError:5:6", true);
    let place = format!("rank 1 of 2 on {}, a long wait", host::name());
    let cause =
        ["NCCL: ", "remote process exited or there was a network error (the test wants it)"];
    assert!(
        job.code == Some(1) && job.says(&["atlas: ", &place]) && job.says(&cause),
        "{:?}: {}",
        job.code,
        job.said
    );
    assert!(since.elapsed() < Duration::from_secs(30));
}

#[test]
fn what_fails_at_the_start_on_one_rank_fails_on_all() {
    let job = run(2, "steps", "0:ncclGetUniqueId:1:4", true);
    let cause = "fails: NCCL: ncclGetUniqueId: invalid argument (run with NCCL_DEBUG=WARN for \
        details) (the test wants it)";
    assert_eq!((job.code, job.of(0).last()), (Some(1), Some(&cause)), "{}", job.said);
    assert_eq!(job.of(1).last(), Some(&"fails: another rank failed"), "{}", job.said);
    assert!(!job.log.iter().any(|l| l.1.starts_with("ncclCommInitRank")), "{:?}", job.log);
}

#[test]
fn without_libnccl_the_message_names_the_remedy() {
    let job = run(2, "steps", "", false);
    let [said] = job.of(0)[..] else { panic!("{:?}: {}", job.log, job.said) };
    assert!(
        said.starts_with("fails: libnccl.so ") && said.contains("containers/setup.sh --cuda"),
        "{said}"
    );
    assert_eq!(
        (job.code, job.of(1)),
        (Some(2), vec!["fails: another rank failed"]),
        "{}",
        job.said
    );
}
