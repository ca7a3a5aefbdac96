//! `atlas explore`

use std::net::IpAddr;

use atlas::{
    data::work_folder::WorkFolder,
    training::run_choice,
    views::explore::{Explorer, PORT, Server},
};
use serde_json::json;

use crate::common::{Common, stop_on_signals};

/// Explore a run in a browser: its samples and errors, class activation maps, nearest neighbours,
/// and images of your own
///
/// Reads the shards and a run with a finished fold; writes nothing. Serves a page to this machine
/// until Ctrl-C. The networks are loaded when they are first needed. On a cluster, forward the
/// port: ssh -L 8642:localhost:8642 HOST
#[derive(clap::Args)]
#[command(after_help = "Example: atlas explore --config configs/demo.toml")]
pub struct Args {
    /// Name of the run (default: the newest one of this configuration)
    #[arg(long, value_name = "NAME")]
    run: Option<String>,
    /// Port to listen on; 0 takes any free one
    #[arg(long, value_name = "N", default_value_t = PORT)]
    port: u16,
    /// Listen on this address instead of 127.0.0.1 (0.0.0.0: on all); every request then needs the
    /// random token in the printed URL. The connection is not encrypted
    #[arg(long, value_name = "ADDRESS")]
    host: Option<IpAddr>,
    /// Require the token on 127.0.0.1, too: for machines that others use
    #[arg(long)]
    token: bool,
    #[command(flatten)]
    common: Common,
}

pub fn run(args: Args) -> anyhow::Result<()> {
    let config = args.common.config()?;
    let work = &WorkFolder::of(&config);
    let run = run_choice::existing(&config, work, args.run.as_deref())?;
    let stop = stop_on_signals()?;
    let server = Server::bind(args.host, args.port, args.token)?;
    let explorer = Explorer::open(&config, work, &run, stop)?;
    let samples = explorer.sample_count();
    let text = format!(
        "{samples} samples of the run {} are at\n\n  {}\n\nCtrl-C ends the server",
        run.name(),
        server.url
    );
    args.common.print(text, json!({ "url": server.url, "run": run.name(), "samples": samples }))?;
    Ok(server.run(explorer, stop)?)
}
