"""What `--help` says: of the program, and of each verb."""

from __future__ import annotations

USAGE = """\
recrun {version}: config-driven experiments with recommender models

  recrun [key=value ...]             train and evaluate: the stages of a model, in one run directory
  recrun -m key=a,b [key=value ...]  a run for every combination of the values
  recrun -m search=tpe 'trainer.lr=tag(log,interval(1e-4,1e-2))'    trials chosen by validation; see explain search
  recrun resume RUN [epochs=N]       go on with an interrupted run or sweep, exactly; or give a run more epochs
  recrun evaluate RUN [key=value]    evaluate the stored weights again, or on other data
  recrun predict RUN --output FILE   what the model predicts for a split, in the data's own format (MIND: .txt or .zip)
  recrun predict RUN --session ITEM,ITEM,... [--k K]    the best next items of one session
  recrun embed RUN --side user|item --output FILE    ids and vectors, .npz or .tsv
  recrun list [WHAT]                 models, datasets, splits, trainers, stages, experiments or runs
  recrun describe dataset=… split=…  what a data set and its split hold, before any training
  recrun estimate [key=value ...]    memory, disk and time of a run, from a few of its steps
  recrun explain KEY [key=value]     a key's meaning, type, default and present value
  recrun split … --output DIR        the split of a data set as files, for other programs
  recrun compare RUN|SWEEP ...       a table of settings over seeds, with tests and intervals
  recrun report RUN|SWEEP            an HTML file: curves, metrics, losses, times, what the run is
  recrun clean RUN|SWEEP             remove what finished runs no longer need
  recrun new model NAME              a model of your own: class, YAML and a test that passes
  recrun VERB --help                 the options of a verb

  recrun model=mult_vae dataset=ml_100k trainer.lr=5e-4 seed=1
  recrun model=ract stage=finetune stage.finetune.lr=1e-6 pre_model_path=outputs/ract/ml_100k/...
  recrun step_limit=10 epochs=1      a smoke run
  recrun --cfg job                   show the config and do nothing

{groups}

Options: -m/--multirun, with it --dry-run (list and check the jobs) and --fail-fast (stop at the first failure),
--config-dir DIR (searched before ./conf), --version, -h/--help, and Hydra's for looking:
--cfg job|hydra|all, --resolve, --package KEY, --info, --shell-completion, --hydra-help.
Exit codes: 0 done, 1 the run failed, 2 wrong usage or config, 130 interrupted (resume it)."""

TRUST = """\

A run directory is data, wherever it comes from. If its config names classes that are not recrun's or torch.optim's:
  plugins=[my_package]   allows those of a package or module that you trust
  --trust                allows all that the run names"""

VERBS = {
    "resume": """\
recrun resume RUN [epochs=N]
recrun resume SWEEP [--fail-fast]

Goes on with a run that was interrupted, killed or failed, to the same bits; of a sweep with all jobs that are not
finished, with the launcher that it began with; of a search also with the trials that are left.

  --fail-fast  stops at the first job that fails
  epochs=N   the last stage gets N epochs in all, with the state of its optimizer; of a finished run if it has kept that
             (keep_state=last)
"""
    + TRUST,
    "evaluate": """\
recrun evaluate RUN [key=value ...]
recrun evaluate --from LISTS [--split valid|test] [--name NAME] [key=value ...]

Evaluates the weights that a finished run kept, on its own data or on others. What is found is added to the run's
evaluations.jsonl. With --from: the recommendation lists of another program, on the units of dataset=… split=…, as a run
directory that `recrun compare` takes.

  --from LISTS    CSV, TSV or Parquet: user, item, rank, score, of which the last two may be left out
  --split SPLIT   whose units the lists are for (default: test)
  --name NAME     what tables call them (default: the name of the file); with seed=…, lists of several seeds
  key=value       other data or another evaluation, for example dataset.path=newer.csv or evaluator.ks=[5]
  eval_limit=N    evaluation batches; also device, precision and threads
"""
    + TRUST,
    "predict": """\
recrun predict RUN --output FILE [--k K] [--split valid|test] [--input PATH] [key=value ...]
recrun predict RUN --session ITEM,ITEM,... [--k K]

Writes what the model predicts for the units of a split; labels are not needed.

  --output FILE     the file; .zip for MIND's leaderboard
  --k K             items of each unit, where a catalogue is ranked (default: the evaluator's largest cut-off)
  --split SPLIT     valid or test (default: test)
  --input PATH      new data instead of the test split
  --session ITEMS   the best next items of one session, on stdout (default: --k 20)
  key=value         dataset.…, device, precision, threads
"""
    + TRUST,
    "embed": """\
recrun embed RUN --side user|item --output FILE [--split valid|test] [key=value ...]

Writes ids and vectors of users or items.

  --side SIDE     user or item
  --output FILE   .npz with `ids` and `vectors`, or .tsv with an id and its numbers in each line
  --split SPLIT   whose histories (default: test)
  key=value       dataset.…, device, precision, threads
"""
    + TRUST,
    "describe": """\
recrun describe [key=value ...]

Reads, filters and splits the data as a run would, and shows what there is and what is lost: counts, density, repeats,
events of equal time, units without an input, the share of targets that training has not seen.

  key=value   dataset.…, split.…, for example dataset=ml_100k split=temporal""",
    "estimate": """\
recrun estimate [key=value ...]

Trains a few steps of every stage, evaluates a few batches, and says what the run would take: memory, disk, seconds of
an epoch, of an evaluation and in all, with what was timed and what is extrapolated from it. A solver in closed form is
carried out whole. It leaves no run directory.

  key=value   as for a run""",
    "split": """\
recrun split [key=value ...] --output DIR [--format tsv|inter]

Writes the split of an event log as files, so that other programs train and are evaluated on the same events: train,
fold_in, valid and test, units/valid.tsv and units/test.tsv (a row per unit: input, seen items, targets), README.txt
with what reads them back, and dataset.yaml, which is an option of the group dataset.

  --output DIR      a new folder, or an empty one: nothing is overwritten
  --format FORMAT   tsv (default), or inter for RecBole's atomic files
  key=value         dataset.…, split.…, for example dataset=ml_100k split=temporal""",
    "new": """\
recrun new model NAME

Writes a model of your own into the working directory, to be changed: NAME.py (the class), conf/model/NAME.yaml (what it
is trained with) and test_NAME.py (a test, which passes). Nothing is overwritten.

  NAME   of small letters, digits and _; then recrun model=NAME""",
    "explain": """\
recrun explain KEY [key=value ...]

Shows what a key means, what it may be, its default, its present value and the file that sets it; of a group, its
options.

  KEY         for example trainer.lr, split.valid_fraction, seed, loader
  key=value   the config in which it is looked up, for example model=sasrec""",
    "compare": """\
recrun compare RUN|SWEEP ... [--baseline NAME | --all-pairs] [--metric NAME,NAME] [--split valid|test]
               [--correction holm|bh] [--format terminal|csv|json|latex|markdown] [--output FILE]

Compares settings (runs that differ by seed alone are one) on the values per user, session or impression that runs left.
Runs with other data, another split or another evaluation are refused.

  --baseline NAME     the setting that all others are compared with: its name, its model or one of its runs
                      (default: the first)
  --all-pairs         every setting with every other
  --metric NAMES      default: the metric that selected the epoch, and some others
  --split SPLIT       valid or test (default: test)
  --correction WHICH  of p-values, over all comparisons of the table: holm (default) or bh, Benjamini-Hochberg
  --format FORMAT     terminal (default), csv, json, latex or markdown
  --output FILE       where to write it (default: stdout)""",
    "report": """\
recrun report RUN|SWEEP [--output FILE]
recrun report RUN|SWEEP ... [--baseline NAME | --all-pairs] [--metric NAME,NAME] [--split valid|test]
              [--correction holm|bh] --output FILE

Writes one HTML file that needs nothing else and loads nothing: learning curves with the kept epoch, metrics with
intervals, their distribution over units, losses, times, data, code and machine, and the command to repeat the run; of a
sweep its settings over seeds. With report=true a run writes it when it has finished. Several runs or sweeps, or an
option of recrun compare (see there), make the page of a comparison: means, differences with tests, and what they show.

  --output FILE   default: report.html in the directory; a comparison needs it""",
    "clean": """\
recrun clean RUN|SWEEP [--dry-run]

Removes what a finished run, or each finished run of a sweep, no longer needs, and says what that was: optimizer state,
the last weights where the best are kept, writes that were interrupted. Results, kept weights and the checkpoints of
save_step stay. Afterwards the run takes no more epochs (recrun resume RUN epochs=N).

  --dry-run   only says what would be removed""",
    "list": """\
recrun list [WHAT]
recrun list runs [FOLDER] [--sort METRIC] [--filter KEY=VALUE] [--format terminal|csv]

Shows what there is and what goes with what: models, datasets, splits, loaders, evaluators, trainers, stages,
objectives, weightings, optimizers, schedulers, trackers, searches, launchers, experiments; or the runs in a folder
(default: outputs) with their status.

  --sort METRIC       the best first, by test, or validation where nothing was tested
  --filter KEY=VALUE  of model, status or a key of the config, for example trainer.lr=0.001; may be given repeatedly
  --format FORMAT     terminal or csv, which holds all metrics, unrounded""",
}
