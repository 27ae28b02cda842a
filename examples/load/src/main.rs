//! The program `jackfield-load`: builds what is needed, carries out a run, and tells what it showed.

use std::{num::NonZeroU32, process::ExitCode};

use clap::{Parser, ValueEnum};
use jackfield_load::{PACKAGES, Plan};
use jackfield_stage::{cargo, told::Told};

/// Posts signed events to the real router, kills it while requests are in flight, and checks that all it acknowledged
/// was delivered. The exit code is 0 only if that is so.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// How many events are posted.
    #[arg(long, default_value_t = 20_000)]
    events: u64,
    /// Over how many connections.
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// How often the router is killed and started again.
    #[arg(long, default_value_t = 2)]
    kills: u64,
    /// How often the plugin's file is replaced, by good ones and bad ones in turn; with `--kills 0`.
    #[arg(long, default_value_t = 0)]
    replacements: u64,
    /// How often the rules are replaced, every fourth time by faulty ones; with `--kills 0`. Posting goes on until the last
    /// have been.
    #[arg(long, default_value_t = 0)]
    reloads: u64,
    /// How many rules there are then.
    #[arg(long, default_value_t = 10_000)]
    rules: u64,
    /// Half of the events are removed by retention while others are posted; with `--kills 0`. Posting goes on while it does.
    #[arg(long)]
    retention: bool,
    /// How many events are posted each second; as many as the router takes if it is left out.
    #[arg(long)]
    rate: Option<NonZeroU32>,
    /// How the router and the plugin are built.
    #[arg(long, value_enum, default_value_t = Profile::Release)]
    profile: Profile,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Profile {
    Dev,
    Release,
}

// On one thread, since the load shares the machine with the router.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match load(&Arguments::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn load(arguments: &Arguments) -> anyhow::Result<bool> {
    let &Arguments {
        events,
        connections,
        kills,
        replacements,
        reloads,
        rules,
        retention,
        rate,
        profile,
    } = arguments;
    println!("Building the router and a plugin that counts; the first time takes a few minutes…");
    let built = cargo::build(
        &PACKAGES,
        match profile {
            Profile::Dev => "dev",
            Profile::Release => "release",
        },
    )?;
    println!(
        "Posting {events} signed events of 3 KB; kills among them: {kills}, replacements of the plugin: {replacements}, of the rules: {reloads}…"
    );
    let plan = Plan {
        events,
        connections,
        kills,
        replacements,
        reloads,
        rules,
        retention,
        rate,
    };
    let run = jackfield_load::run(&built, plan).await?;
    let mut told = Told::default();
    run.tell(&mut told);
    if let Profile::Release = profile {
        run.tell_memory(&mut told);
    }
    println!(
        "\n{}",
        if told.all_true() {
            "Nothing that was acknowledged is missing."
        } else {
            "NOT all of it is true."
        }
    );
    Ok(told.all_true())
}
