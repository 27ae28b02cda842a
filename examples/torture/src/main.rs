//! The program `jackfield-torture`: builds what is needed, carries out a run, and tells what it showed.

use std::{num::NonZeroUsize, process::ExitCode, time::Duration};

use anyhow::Context as _;
use clap::{Parser, ValueEnum};
use jackfield_stage::{cargo, told::Told};
use jackfield_torture::{PACKAGES, Plan};

/// Kills, stops and starves the real router, its plugins and its disk under load, and checks that all it acknowledged was
/// carried out. The exit code is 0 only if that is so.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// What all chance comes from; another one each time if it is left out.
    #[arg(long)]
    seed: Option<u64>,
    /// For how long, without the time until all is settled.
    #[arg(long, default_value_t = 5.0)]
    minutes: f64,
    /// How many senders post, each with an order key of its own.
    #[arg(long, default_value = "16")]
    senders: NonZeroUsize,
    /// How long each of them waits at most between two events, in milliseconds.
    #[arg(long, default_value_t = 1000)]
    pause: u64,
    /// How the router and the plugin are built.
    #[arg(long, value_enum, default_value_t = Profile::Release)]
    profile: Profile,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Profile {
    Dev,
    Release,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match torture(&Arguments::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn torture(arguments: &Arguments) -> anyhow::Result<bool> {
    println!("Building the router and a puppet; the first time takes a few minutes…");
    let built = cargo::build(
        &PACKAGES,
        match arguments.profile {
            Profile::Dev => "dev",
            Profile::Release => "release",
        },
    )?;
    let seed = arguments.seed.unwrap_or_else(|| fastrand::u64(..));
    let plan = Plan {
        seed,
        length: Duration::try_from_secs_f64(arguments.minutes * 60.0)
            .context("`--minutes` is a length of time")?,
        senders: arguments.senders.get(),
        pause: Duration::from_millis(arguments.pause),
        say: true,
    };
    println!("Torture of {} minutes, --seed {seed}", arguments.minutes);
    let home = tempfile::Builder::new().prefix("jackfield-torture-").tempdir()?;
    let seen = jackfield_torture::run(&built, plan, home.path()).await;
    let mut told = Told::default();
    let passes = match &seen {
        Ok(run) => {
            run.tell(&mut told);
            told.all_true()
        }
        Err(_) => false,
    };
    if !passes {
        println!(
            "\nNOT all of it is true. --seed {seed}; its files are kept in {}",
            home.keep().display()
        );
        seen?;
        return Ok(false);
    }
    println!(
        "\nNothing that was acknowledged is missing, and nothing happened otherwise than the journal says."
    );
    Ok(true)
}
