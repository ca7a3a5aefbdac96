//! Stand-ins for sbatch, srun, scontrol and the like that write down how they were called.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{Command, Output},
};

use crate::site::Site;

pub struct Fake {
    pub site: Site,
    bin: PathBuf,
    calls: PathBuf,
}

/// Writes its name and words; a word with a blank in quotes.
const NOTE: &str = r#"#!/bin/bash
{
    printf '%s' "${0##*/}"
    for word; do
        case $word in *' '*) printf " '%s'" "$word" ;; *) printf ' %s' "$word" ;; esac
    done
    for name in ${!SBATCH_*}; do
        [ "${0##*/}" != sbatch ] || printf ' %s=%s' "$name" "${!name}"
    done
    echo
} >>"$FAKE_CALLS"
"#;

impl Fake {
    pub fn new() -> Self {
        let site = Site::bare();
        let (bin, calls) = (site.path("bin"), site.path("calls"));
        fs::create_dir(&bin).unwrap();
        fs::write(&calls, "").unwrap();
        let tool = |name: &str, does: &str| {
            fs::write(bin.join(name), format!("{NOTE}{does}\n")).unwrap();
            fs::set_permissions(bin.join(name), fs::Permissions::from_mode(0o755)).unwrap();
        };
        // Job ids count up.
        let sbatch = r#"if [[ -n ${FAKE_REFUSES:-} && "$*" == *"--job-name=$FAKE_REFUSES"* ]]; then
    echo "sbatch: error: refused" >&2
    exit 1
fi
echo "$((100 + $(grep -c ^sbatch "$FAKE_CALLS")));a cluster""#;
        tool("sbatch", sbatch);
        tool("squeue", r#"[ -z "${FAKE_SQUEUE_FAILS:-}" ]"#);
        tool("scancel", "exit 0");
        tool("sleep", "exit 0"); // a script waits for its end there
        tool("srun", r#"exit "${FAKE_CODE:-0}""#);
        let scontrol = r#"case "$1 $2" in
'requeue '*) [ -z "${FAKE_REQUEUE_FAILS:-}" ] ;;
'show config') echo "MaxArraySize            = ${FAKE_LARGEST:-}" ;;
'show job') printf '   JobState=%s Reason=None\n' "${FAKE_STATE:-RUNNING}"
    printf '   Command=%s --set a=b\n' "$FAKE_COMMAND" ;;
esac"#;
        tool("scontrol", scontrol);
        tool("apptainer", "exit 0");
        Self { site, bin, calls }
    }

    fn with_path(&self, mut command: Command) -> Command {
        let path = std::env::var("PATH").unwrap();
        command
            .env("PATH", format!("{}:{path}", self.bin.display()))
            .env("FAKE_CALLS", &self.calls);
        command
    }

    pub fn pipeline(&self, args: &[&str]) -> Command {
        self.with_path(self.site.command(self.site.path("a clone/slurm/pipeline.sh"), args))
    }

    /// A script as Slurm runs it, task 3 of array 12: a copy, elsewhere. `status --missing` says
    /// FAKE_MISSING.
    pub fn job(&self, script: &str, args: &[&str], env: &[(&str, &str)]) -> Output {
        let copy = self.site.path("slurm_script");
        let original = self.site.path("a clone/slurm").join(script);
        fs::copy(&original, &copy).unwrap();
        let program = self.site.path("a clone/target/release/atlas");
        if program.is_symlink() {
            fs::remove_file(&program).unwrap();
            fs::write(&program, "#!/bin/sh\nprintf '%s\\n' \"$FAKE_MISSING\"\n").unwrap();
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let mut command = self.with_path(self.site.command("bash", &[]));
        command.arg(&copy).args(args).env("FAKE_COMMAND", &original);
        command
            .env("SLURM_JOB_ID", "15")
            .env("SLURM_ARRAY_JOB_ID", "12")
            .env("SLURM_ARRAY_TASK_ID", "3")
            .env("SLURM_CPUS_PER_TASK", "4");
        command.env("SLURM_JOB_NAME", "atlas-job").envs(env.iter().copied());
        command.output().unwrap()
    }

    /// What was called since the last look.
    pub fn calls(&self) -> String {
        let text = fs::read_to_string(&self.calls).unwrap();
        fs::write(&self.calls, "").unwrap();
        text
    }
}
