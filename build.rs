//! Tells the linker where libtorch is (a dependency's own run path does not reach our program), the
//! program its commit, and the tests what this machine has.
use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

fn main() {
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    println!("cargo:rerun-if-changed=build.rs");
    let libtorch = PathBuf::from(env::var("LIBTORCH").unwrap_or_else(|_| ".deps/torch".into()));
    // The link `.deps` may change later; the program keeps the path that it points to now.
    let lib = fs::canonicalize(libtorch.join("lib")).unwrap_or_else(|_| {
        println!("cargo:warning=libtorch not found: run containers/setup.sh");
        libtorch.join("lib")
    });
    println!("cargo:rerun-if-changed={}", lib.display()); // another libtorch than in the last build
    println!("cargo:rustc-link-arg=-Wl,-rpath,{}", lib.display());

    println!("cargo:rerun-if-changed=src/network/autograd/shim.cpp");
    let include = libtorch.join("include");
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .file("src/network/autograd/shim.cpp")
        .include(&include)
        .include(include.join("torch/csrc/api/include"))
        .flag("-Wno-unused-parameter") // in libtorch's headers
        .compile("atlas_shim");

    git_commit();
    test_needs();
}

/// Every result names the commit of the program; for a source without its history (in a container)
/// ATLAS_GIT_COMMIT states it.
fn git_commit() {
    let git = |words: &[&str]| {
        let out = Command::new("git").args(words).output().ok().filter(|o| o.status.success())?;
        Some(String::from_utf8_lossy(&out.stdout).trim().to_string())
    };
    println!("cargo:rerun-if-env-changed=ATLAS_GIT_COMMIT");
    for name in ["HEAD", "logs/HEAD"] {
        // In a linked worktree these are not below `.git`.
        rerun_if_changed(git(&["rev-parse", "--git-path", name]).unwrap_or_default().as_ref());
    }
    let described = || git(&["describe", "--always", "--dirty", "--abbrev=12"]);
    let commit = env::var("ATLAS_GIT_COMMIT").ok().or_else(described);
    println!("cargo:rustc-env=ATLAS_GIT_COMMIT={}", commit.unwrap_or_else(|| "unknown".into()));
}

/// Tests that need something that this machine lacks are ignored.
fn test_needs() {
    let path = env::var_os("PATH").unwrap_or_default();
    let valgrind = env::split_paths(&path).map(|folder| folder.join("valgrind"));
    let valgrind = valgrind.into_iter().find(|file| file.is_file());
    let data = Path::new("../shared/data/kaggle/train.csv");
    #[cfg(target_arch = "x86_64")]
    let avx2 = is_x86_feature_detected!("avx2");
    #[cfg(not(target_arch = "x86_64"))]
    let avx2 = false;
    rerun_if_changed(data);
    rerun_if_changed(valgrind.as_deref().unwrap_or("".as_ref()));
    for (name, is_so) in [
        ("has_shared_data", data.exists()),
        ("can_count_instructions", valgrind.is_some() && avx2),
        ("has_gpu", Path::new("/dev/nvidiactl").exists()),
    ] {
        println!("cargo:rustc-check-cfg=cfg({name})");
        if is_so {
            println!("cargo:rustc-cfg={name}");
        }
    }
}

/// Not for a missing file: Cargo would run this script and compile atlas again at every call. What
/// appears later is found when the script runs next: at a commit, or after `touch build.rs`.
fn rerun_if_changed(file: &Path) {
    if file.exists() {
        println!("cargo:rerun-if-changed={}", file.display());
    }
}
