//! Makes the options of a farm from the command line: the only place that knows both.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pytf::cli::{self, DeviceArgs, FarmArgs, Tasks, unknown_variables};
use pytf::definitions::Places;
use pytf::farm::options::{
    AllocationEnd, Bind, DeviceOptions, HandlerChoice, KeepTaskDir, Options, Order, TaskDirOptions,
    TaskList,
};
use pytf::model::escape::escape;
use pytf::model::logs::LogMode;
use pytf::model::retry::RetryRule;
use pytf::runner::chosen::RunnerChoice;
use pytf::workdir::mechanism::Mechanism;

/// The options of a farm.
pub(crate) fn farm(tasks: Tasks, workdir: PathBuf, args: FarmArgs) -> Options {
    let slots = args.slots();
    let places = Places::of(|name| std::env::var_os(name), &args.config);
    Options {
        tasks: task_list(tasks),
        handler: HandlerChoice {
            name: args.tasklist,
            places: places.clone(),
        },
        runner: RunnerChoice {
            name: args.runner,
            options: args.runner_key,
            places,
        },
        order: order(&args.order),
        workdir,
        hosted: None,
        pipe: None,
        slots,
        timeout: args.timeout,
        task_timeout: args.task_timeout,
        mem_kib: args.mem,
        only_free: args.only_free,
        grace: args.grace,
        takeover: args.takeover,
        end: end(args.walltime, args.no_walltime),
        task_estimate: args.task_estimate,
        hides_launcher: args.srun_env == cli::SrunEnv::Scrub,
        logs: logs(args.logs),
        task_dir: args.task_dir.map(|base| TaskDirOptions {
            base: (base != Path::new(cli::TEMPORARY)).then_some(base),
            keep: match args.keep_task_dir {
                cli::KeepTaskDir::Never => KeepTaskDir::Never,
                cli::KeepTaskDir::Failed => KeepTaskDir::Failed,
                cli::KeepTaskDir::Always => KeepTaskDir::Always,
            },
        }),
        copy_out: args.copy_out,
        shell: args.shell,
        lock: mechanism(args.lock),
        retry: RetryRule {
            retries: args.retries,
            on: args.retry_on.map_or_else(Vec::new, |causes| causes.0),
            delay: args.retry_delay,
        },
        retry_failed: args.retry_failed,
        strict: args.strict,
        plain: args.plain,
        drop: args.drop,
        shared_workdir: args.shared_workdir,
        linger: !args.no_linger,
        follow: args.follow,
        quarantine: !args.no_quarantine,
        max_fail: args.max_fail,
        labels: args.label.iter().cloned().collect(),
        halt_now: args.halt == cli::Halt::Now,
        write_timeline: (!args.no_timeline).then_some(crate::views::write_timeline),
        verbose: args.verbose,
        quiet: args.quiet,
        log_tasks: args.log_tasks,
        on_end: args.on_end,
        start_delay: args.start_delay,
        start_interval: args.start_rate.unwrap_or_default(),
        node_setup: args.node_setup,
        node_teardown: args.node_teardown,
        node_timeout: args.node_timeout,
        devices: devices(args.devices),
        ignored: ignored(std::env::vars_os().map(|(name, _)| name)),
    }
}

/// When the allocation ends.
fn end(walltime: Option<Duration>, is_ignored: bool) -> AllocationEnd {
    match walltime {
        _ if is_ignored => AllocationEnd::Ignored,
        None => AllocationEnd::Asked,
        Some(span) if span.is_zero() => AllocationEnd::Ignored,
        Some(span) => AllocationEnd::After(span),
    }
}

/// Where the tasks come from.
fn task_list(tasks: Tasks) -> TaskList {
    match tasks {
        Tasks::List(list) if list == Path::new("-") => TaskList::Stdin,
        Tasks::List(list) => TaskList::File(list),
        Tasks::Template(template) => TaskList::Template(template),
        Tasks::Added => TaskList::Added,
    }
}

/// What becomes of the output of tasks.
fn logs(logs: cli::Logs) -> LogMode {
    match logs {
        cli::Logs::Files => LogMode::Files,
        cli::Logs::Split => LogMode::Split,
        cli::Logs::Packed => LogMode::Packed,
        cli::Logs::Failed => LogMode::Failed,
        cli::Logs::None => LogMode::None,
    }
}

/// In which order waiting tasks start.
fn order(order: &cli::Order) -> Order {
    match order {
        cli::Order::List => Order::List,
        cli::Order::LongestFirst(workdir) => Order::LongestFirst(workdir.clone()),
    }
}

/// The locking mechanism; none: chosen by the file system.
fn mechanism(lock: cli::Lock) -> Option<Mechanism> {
    match lock {
        cli::Lock::Auto => None,
        cli::Lock::Flock => Some(Mechanism::Flock),
        cli::Lock::Fcntl => Some(Mechanism::Fcntl),
        cli::Lock::Link => Some(Mechanism::Link),
    }
}

/// The options for GPUs and CPUs.
pub(crate) fn devices(args: DeviceArgs) -> DeviceOptions {
    DeviceOptions {
        wants_gpus: args.wants_gpus(),
        gpus: args.gpus,
        gpus_per_task: args.gpus_per_task,
        tasks_per_gpu: args.tasks_per_gpu,
        gpu_max_load: args.gpu_max_load,
        gpu_max_memory: args.gpu_max_memory,
        mps: args.mps,
        cpus_per_task: args.cpus_per_task,
        bind: args.bind.map(|bind| match bind {
            cli::Bind::None => Bind::None,
            cli::Bind::Core => Bind::Core,
            cli::Bind::Numa => Bind::Numa,
            cli::Bind::Gpu => Bind::Gpu,
        }),
    }
}

/// Messages about variables that look like options but are not: users who set them expect
/// an effect.
fn ignored(names: impl Iterator<Item = OsString>) -> Vec<String> {
    let text = |(name, meant): (String, Option<String>)| {
        let name = escape(name.as_bytes());
        let meant = meant.map_or_else(String::new, |meant| format!("; did you mean {meant}?"));
        format!("{name} is not a variable of pytf and is ignored{meant}")
    };
    unknown_variables(names).into_iter().map(text).collect()
}
