//! The GPUs, as the driver, libtorch and NCCL see them.

use std::{
    ffi::{CStr, c_char, c_int},
    sync::OnceLock,
    time::Duration,
};

use super::{
    check::{Check, variable, within},
    container,
};
use crate::{
    config::Backend,
    distributed::device::{self, Cuda},
};

/// How long the driver may take to answer.
const DRIVER_TIMEOUT: Duration = Duration::from_secs(60);

/// The GPUs of this machine and the libraries for them.
#[derive(Debug)]
struct GpuFindings {
    /// The driver and its GPUs, or its error; `None` without a driver.
    driver: Option<Result<CudaDriver, String>>,
    libtorch: Cuda,
    /// NCCL's version, or why it cannot be used.
    nccl: Result<String, String>,
}

#[derive(Debug)]
struct CudaDriver {
    version: String,
    /// Name, UUID and memory.
    gpus: Vec<String>,
}

/// Examined once per process; `None` where the driver does not answer.
fn findings() -> Option<&'static GpuFindings> {
    static FINDINGS: OnceLock<Option<GpuFindings>> = OnceLock::new();
    let examine = || {
        // Also opens the driver, and has to come before any other call to libtorch.
        let libtorch = device::cuda().clone();
        let driver = (libtorch != Cuda::NoDriver).then(driver);
        GpuFindings { driver, libtorch, nccl: nccl() }
    };
    FINDINGS.get_or_init(|| within(DRIVER_TIMEOUT, examine)).as_ref()
}

/// Whether a training here would be on GPUs.
pub(super) fn are_used(backend: Backend) -> bool {
    backend != Backend::Mpi
        && matches!(findings(), Some(GpuFindings { libtorch: Cuda::Gpus(1..), .. }))
}

/// Whether libcuda can be opened.
pub(super) fn have_driver() -> bool {
    findings().is_some_and(|found| found.driver.is_some())
}

/// The GPU of the rank with this number on its machine.
pub(super) fn of_rank(backend: Backend, local_rank: usize) -> Option<String> {
    if !are_used(backend) {
        return None;
    }
    let Some(Ok(driver)) = &findings()?.driver else { return None };
    let index = if driver.gpus.len() == 1 { 0 } else { local_rank };
    driver.gpus.get(index).cloned()
}

/// `ranks` in all; this one has the number `local_rank` on its machine.
pub(super) fn checks(backend: Backend, ranks: usize, local_rank: usize) -> Vec<Check> {
    // The setting or variable because of which GPUs are expected.
    let expected_by = match backend {
        Backend::Nccl => Some("comm.backend = \"nccl\"".to_string()),
        _ => expecting_variable(),
    };
    let Some(found) = findings() else {
        let found = format!("no answer from CUDA within {} s", DRIVER_TIMEOUT.as_secs());
        let fix = "the driver hangs: look at nvidia-smi and dmesg, and take another machine";
        return vec![Check::fail("GPUs", found, fix)];
    };
    let mut checks = vec![gpus(found, expected_by.as_deref())];
    if checks[0].fix.is_none()
        && are_used(backend)
        && let Err(e) = device::choose(backend, local_rank)
    {
        checks[0] =
            Check::fail("GPUs", e.to_string(), "--ntasks-per-node as large as N in --gres=gpu:N");
    }
    checks.push(libtorch(found, expected_by.is_some()));
    checks.push(match &found.nccl {
        Ok(version) => Check::ok("NCCL", version),
        Err(why) if backend == Backend::Nccl || (ranks > 1 && are_used(backend)) => Check::fail(
            "NCCL",
            why,
            "containers/setup.sh --cuda fetches it; comm.backend = \
                \"mpi\" does without it, on the CPUs",
        ),
        Err(_) => Check::ok("NCCL", "none: only several GPUs need it"),
    });
    checks
}

/// The variable with its value because of which this process should have GPUs.
fn expecting_variable() -> Option<String> {
    let none = ["0", "-1", "NoDevFiles", "(null)"];
    let value = |name: &str| {
        variable(name).filter(|value| {
            !none.contains(&value.as_str()) || (name != "SLURM_GPUS_ON_NODE" && value == "0")
        })
    };
    ["SLURM_GPUS_ON_NODE", "SLURM_JOB_GPUS", "CUDA_VISIBLE_DEVICES"]
        .iter()
        .find_map(|name| Some(format!("{name}={}", value(name)?)))
}

fn gpus(found: &GpuFindings, expected_by: Option<&str>) -> Check {
    let what = match &found.driver {
        None => "no CUDA driver".to_string(),
        Some(Err(why)) => format!("the CUDA driver fails: {why}"),
        Some(Ok(CudaDriver { version, gpus })) if gpus.is_empty() => {
            format!("CUDA {version}, no GPU")
        }
        Some(Ok(CudaDriver { version, gpus })) => {
            let driver = release().map_or(String::new(), |release| format!(", driver {release}"));
            return Check::ok(
                "GPUs",
                format!("{} with CUDA {version}{driver}: {}", gpus.len(), gpus.join("; ")),
            );
        }
    };
    let fix = match (&found.driver, container::image()) {
        (None, Some(_)) => {
            "start the container with --nv, which brings the driver in (and see nvidia-smi outside)"
        }
        (None, None) => {
            "install NVIDIA's driver, or take a machine that has one (Slurm: --gres=gpu:N)"
        }
        _ => "ask Slurm for them: --gres=gpu:N; and look at nvidia-smi and CUDA_VISIBLE_DEVICES",
    };
    match expected_by {
        Some(expected_by) => Check::fail("GPUs", format!("{what}, but {expected_by}"), fix),
        None => Check::ok("GPUs", format!("none: training on CPU ({what})")),
    }
}

/// The release of NVIDIA's kernel driver, such as 580.95.05.
fn release() -> Option<String> {
    let text = std::fs::read_to_string("/proc/driver/nvidia/version").ok()?;
    let is_release =
        |word: &&str| word.contains('.') && word.split('.').all(|part| part.parse::<u32>().is_ok());
    text.split_whitespace().find(is_release).map(String::from)
}

fn libtorch(found: &GpuFindings, wanted: bool) -> Check {
    // Where it was loaded from.
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let path = maps.lines().find_map(|line| {
        line.find('/').map(|at| &line[at..]).filter(|path| path.contains("libtorch_cpu.so"))
    });
    let version = format!("{} ({})", device::LIBTORCH, path.unwrap_or("linked in"));
    match &found.libtorch {
        Cuda::NoDriver => Check::ok("libtorch", format!("{version}, on CPU")),
        Cuda::Gpus(n) => Check::ok("libtorch", format!("{version}, sees {n} GPUs")),
        Cuda::Unusable(why) => {
            let (found, fix) = (
                format!("{version}, for CPU only: {why}"),
                "containers/setup.sh --cuda fetches libtorch's part for GPUs",
            );
            if wanted {
                Check::fail("libtorch", found, fix)
            } else {
                Check::warning("libtorch", found, fix)
            }
        }
    }
}

/// Queries the driver, which must be open.
fn driver() -> Result<CudaDriver, String> {
    type Init = extern "C" fn(u32) -> c_int;
    type Number = extern "C" fn(*mut c_int) -> c_int;
    type Get = extern "C" fn(*mut c_int, c_int) -> c_int;
    type Name = extern "C" fn(*mut c_char, c_int, c_int) -> c_int;
    type Uuid = extern "C" fn(*mut [u8; 16], c_int) -> c_int;
    type Memory = extern "C" fn(*mut usize, c_int) -> c_int;
    fn find<F: Copy>(name: &CStr) -> Result<F, String> {
        // SAFETY: the types above are the signatures that the driver documents.
        unsafe { device::function(name) }
            .ok_or_else(|| format!("it has no {}", name.to_string_lossy()))
    }
    let done = |what: &str, code: c_int| {
        if code == 0 { Ok(()) } else { Err(format!("{what} gives error {code}")) }
    };

    done("cuInit", find::<Init>(c"cuInit")?(0))?;
    let (mut version, mut count) = (0, 0);
    done("cuDriverGetVersion", find::<Number>(c"cuDriverGetVersion")?(&raw mut version))?;
    done("cuDeviceGetCount", find::<Number>(c"cuDeviceGetCount")?(&raw mut count))?;
    let get = find::<Get>(c"cuDeviceGet")?;
    let (name_of, uuid_of) =
        (find::<Name>(c"cuDeviceGetName")?, find::<Uuid>(c"cuDeviceGetUuid_v2")?);
    let memory_of = find::<Memory>(c"cuDeviceTotalMem_v2")?;
    let describe = |index| {
        let (mut device, mut name, mut uuid, mut bytes) = (0, [0u8; 128], [0; 16], 0);
        done("cuDeviceGet", get(&raw mut device, index))?;
        done(
            "cuDeviceGetName",
            name_of(name.as_mut_ptr().cast(), name.len() as c_int - 1, device),
        )?;
        done("cuDeviceGetUuid", uuid_of(&raw mut uuid, device))?;
        done("cuDeviceTotalMem", memory_of(&raw mut bytes, device))?;
        let name = CStr::from_bytes_until_nul(&name).map_or("?".into(), CStr::to_string_lossy);
        // Enough to distinguish the GPUs of one machine.
        let start: String = uuid[..4].iter().map(|b| format!("{b:02x}")).collect();
        Ok(format!("{name} (GPU-{start}, {} MiB)", bytes >> 20))
    };
    let gpus = (0..count).map(describe).collect::<Result<_, String>>()?;
    Ok(CudaDriver { version: format!("{}.{}", version / 1000, version % 1000 / 10), gpus })
}

fn nccl() -> Result<String, String> {
    device::open("libnccl.so", libc::RTLD_LAZY | libc::RTLD_GLOBAL)?;
    // SAFETY: NCCL documents this signature.
    let get: Option<extern "C" fn(*mut c_int) -> c_int> =
        unsafe { device::function(c"ncclGetVersion") };
    let mut version = 0;
    match get.map(|get| get(&raw mut version)) {
        Some(0) => Ok(format!("{}.{}.{}", version / 10_000, version % 10_000 / 100, version % 100)),
        _ => Err("libnccl.so does not report its version".into()),
    }
}
