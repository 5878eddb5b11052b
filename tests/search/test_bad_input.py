"""Bad input: one line, the right exit code, before Ray starts. A row of each kind goes through the
real command, the others through its `main`.

The catalogue of what people and accidents put in. It has no rows for a metric, a mode or a quantum,
which the command does not ask for; storage that several hosts must share is told of where there are
several hosts.
"""

import resource
import socket
import struct
import threading
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.models import resnet18

import search
from search.operations.run_request import named_data_sets
from search.spaces.find import names
from search.tracking import uri as tracking_uri
from search.values.verbs import VERBS
from tests.conftest import Command
from tests.search.preflight.test_exports import build_hesitating
from tests.support.broken_files import FILES
from trainables.catalog.models import MODELS

CREDENTIAL = (
    "looks like a credential, so its value was refused and not logged. "
    "Pass credentials in environment variables."
)
DATA_SETS = named_data_sets() | {"folder:PATH", "s3://BUCKET/PREFIX"}
CUT_OFF = "the image is damaged or cut off). Remove it, or leave it out with --skip-bad."

LABELS_MEANT = (
    "data set folder not found: 'labls' (--data folder:PATH, or --data-root PATH if a search's "
    "folder was moved). Expected one sub-folder per class. "
    "Did you mean 'labels'?"
)

Case = tuple[list[str], str, int]
CASES: list[Case] = [
    # The space
    (
        ["--space", "tabel3"],
        f"unknown space 'tabel3'. Known: {', '.join(names())}. Did you mean 'table3'?",
        2,
    ),
    (["--space", ""], "unknown space ''.", 2),
    (["--space", "\x1b[2J"], "unknown space '\\x1b[2J'.", 2),
    (
        ["--space", "none.py"],
        "the space file 'none.py' is not an existing .py file. Pass the path of a Python file as "
        "--space FILE.py:FUNCTION.",
        2,
    ),
    (["--space", "spaces.py:none"], "space file 'spaces.py' has no 'none'.", 2),
    (["--space", "spaces.py:number"], "space 'spaces.py:number' must be a SearchSpace, or a", 2),
    (
        ["--space", "spaces.py:broken"],
        "'broken' of the space file 'spaces.py' cannot be loaded (ZeroDivisionError in line",
        2,
    ),
    (
        ["--space", "spaces.py:unknown_model"],
        f"unknown model 'tabel2'. Known: {', '.join(sorted(MODELS))}. Did you mean 'table2'?",
        2,
    ),
    (["--space", "spaces.py:empty"], "optimizer.lr: Choice requires at least one value", 2),
    (
        ["--space", "spaces.py:upside_down"],
        "optimizer.lr: low must not exceed high (got low=2, high=1).",
        2,
    ),
    (
        ["--space", "spaces.py:log_from_zero"],
        "optimizer.lr: a log range requires low > 0 (got 0).",
        2,
    ),
    (["--space", "spaces.py:no_step"], "model.dropout: step must be > 0", 2),
    (["--space", "spaces.py:odd_key"], "unknown key 'optimizer[lr]'.", 2),
    (
        ["--space", "spaces.py:huge", "--algorithm", "grid"],
        "the space 'spaces' has 409,600 grid points (limit 10,000). Use --trials N or --algorithm "
        "random.",
        2,
    ),
    (
        ["--space", "mnist_cnn", "--algorithm", "grid"],
        "a grid requires a finite number of values, but 'optimizer.lr' is a range without steps.",
        2,
    ),
    # Values
    (
        ["--space", "table3", "--set", "lr=1"],
        (
            "unknown key 'lr'. Known: batch_size, epochs, metric, precision, seed, "
            "warm_start. Did you mean 'optimizer.lr'?"
        ),
        2,
    ),
    (
        ["--space", "table3", "--set", "optimizer.lrr=1"],
        "unknown key 'optimizer.lrr'. Known: optimizer.backbone_lr, optimizer.decay, optimizer.lr,",
        2,
    ),
    (["--space", "table3", "--set", "optimizer,lr=1"], "unknown key 'optimizer,lr'.", 2),
    (["--space", "table3", "--set", "batch_size[0]=1"], "unknown key 'batch_size[0]'.", 2),
    (
        ["--space", "table3", "--set", "batch_size"],
        "a setting must have the form key=value (got 'batch_size').",
        2,
    ),
    (
        ["--space", "table3", "--set", "batch_size=32.5"],
        "batch_size must be a whole number (got '32.5').",
        2,
    ),
    (
        ["--space", "table3", "--set", "batch_size=many"],
        "batch_size must be a whole number (got 'many').",
        2,
    ),
    (["--space", "table3", "--set", "batch_size=0"], "batch_size must be >= 2 (got 0).", 2),
    (
        ["--space", "table3", "--set", "batch_size=5000"],
        "batch_size 5000 exceeds the 1079 training images.",
        2,
    ),
    (
        ["--space", "table3", "--set", "optimizer.lr=nan"],
        "optimizer.lr must be finite (got nan).",
        2,
    ),
    (
        ["--space", "smoke", "--set", "data.image_size=3"],
        "table2 needs images of at least 4 x 4 pixels (got 3 x 3).",
        2,
    ),
    (
        ["--space", "smoke", "--set", "data.val_fraction=0.6", "--set", "data.test_fraction=0.5"],
        "the sum of data.val_fraction and data.test_fraction must be below 1, so that training "
        "images are left (got 1.1).",
        2,
    ),
    (["--space", "smoke", "--folds", "1"], "data.folds must be >= 2 and <= 20 (got 1).", 2),
    (["--space", "smoke", "--folds", "five"], "argument --folds: invalid int value: 'five'.", 2),
    (
        ["--space", "smoke", "--folds", "5", "--set", "data.folds=3"],
        "--folds 5 and --set data.folds=3 contradict each other. Leave one of them out.",
        2,
    ),
    (
        ["--space", "smoke", "--folds", "5", "--fuse", "4"],
        "--folds 5 cannot be combined with --fuse 4, because one process trains the folds",
        2,
    ),
    (
        ["--space", "smoke", "--set", "data.folds=5", "--fuse", "measure"],
        "--folds 5 cannot be combined with --fuse measure, because one process trains",
        2,
    ),
    (
        ["--space", "smoke", "--folds", "5", "--workers", "2", "--cpus-per-trial", "0.1"],
        "--folds 5 cannot be combined with --workers 2, because one process",
        2,
    ),
    (
        ["--space", "smoke", "--folds", "20", "--set", "data.train_limit=60"],
        "class '0' has 6 training images, but each of the 20 folds needs an image of every "
        "class. Use --folds 6",
        2,
    ),
    (
        ["--space", "table3", "--folds", "5", "--set", "batch_size=1151"],
        "batch_size 1151 exceeds the 1150 training images (5 folds). Use a smaller one",
        2,
    ),
    (["--space", "smoke", "--trials", "0"], "--trials must be >= 1 (got 0).", 2),
    (["--space", "smoke", "--trials", "-5"], "--trials must be >= 1 (got -5).", 2),
    (
        ["--space", "smoke", "--trials", "three"],
        "argument --trials: invalid int value: 'three'.",
        2,
    ),
    (
        ["--space", "smoke", "--trails", "3"],
        "there is no option '--trails'; did you mean '--trials'?",
        2,
    ),
    (
        ["--space", "smoke", "-trails=3"],
        "there is no option '-trails'; did you mean '--trials'?",
        2,
    ),
    (["--space", "smoke", "--elephants", "3"], "there is no option '--elephants'. See", 2),
    (["--space", "smoke", "trials", "3"], "unrecognized arguments: trials 3. See", 2),
    (["--space", "smoke", "--max-epochs", "0"], "--max-epochs must be >= 1 (got 0).", 2),
    (
        ["--space", "smoke", "--budget", "600"],
        (
            "argument --budget: must have one of these forms: 90s, 30m, 2h, 1d; 500epochs; "
            "10gpu-hours, 10cpu-hours, 3600device-seconds; 20usd"
        ),
        2,
    ),
    (
        ["--space", "smoke", "--budget", "nan"],
        "argument --budget: must have one of these forms: 90s, 30m,",
        2,
    ),
    (
        ["--space", "smoke", "--budget", "20usd"],
        "--budget 20 usd requires the price of one device per hour (a GPU if trials",
        2,
    ),
    (
        ["--space", "smoke", "--device", "cpu", "--budget", "2gpu-hours"],
        "--budget 2 gpu-hours limits GPU time, but the trials do not use a GPU. Use a "
        "limit in cpu-hours, or --device cuda.",
        2,
    ),
    (
        ["--space", "smoke", "--min-gain", "nan"],
        "--min-gain must be at least 0 and below 100 points (got nan).",
        2,
    ),
    (
        ["--space", "smoke", "--objective", "latency"],
        (
            "--objective must be val_accuracy, optionally followed by one or two of "
            "latency, parameters, corruption_accuracy, separated by commas"
        ),
        2,
    ),
    (
        ["--space", "smoke", "--metric", "f1"],
        "argument --metric: invalid choice: 'f1' (choose from ",
        2,
    ),
    (
        ["--space", "smoke", "--metric", "macro_f1", "--set", "metric=auc"],
        "--metric macro_f1 and --set metric=auc contradict each other. Leave one of them out.",
        2,
    ),
    (
        ["--space", "smoke", "--metric", "auc", "--objective", "val_accuracy,latency"],
        "--objective must be val_auc, optionally followed by one or two of latency, "
        "parameters, corruption_accuracy, separated by commas",
        2,
    ),
    (
        ["--space", "baselines", "--objective", "val_accuracy,parameters"],
        "--objective parameters cannot be used with svm, which has no parameters to "
        "count. Use the objective latency, or search only networks.",
        2,
    ),
    (
        ["--space", "smoke", "--algorithm", "baies"],
        "unknown algorithm 'baies'. Known: bayes, gp, grid, random. Did you mean 'bayes'?",
        2,
    ),
    (
        ["--space", "smoke", "--scheduler", "asah"],
        "unknown scheduler 'asah'. Known: asha, fifo, halving, hyperband, median. "
        "Did you mean 'asha'?",
        2,
    ),
    (
        ["--space", "smoke", "--workers", "2", "--cpus-per-trial", "0.1", "--set", "batch_size=3"],
        "batch_size 3 must be at least 4, because each of 2 workers needs 2 images",
        2,
    ),
    # Weights
    (["--space", "transfer"], "none of the weights 'mobilenet_v2-7ebf99e0.pth', 'resnet18-", 2),
    (["--space", "transfer", "--download"], "none of the weights 'mobilenet_v2-7ebf99e0.pth', ", 4),
    (
        ["--space", "transfer", "--weights", "none.pth"],
        "--weights 'none.pth' does not exist. Pass a file of weights, a checkpoint, or a folder",
        2,
    ),
    # Images without labels
    (
        ["--unlabelled", "nowhere"],
        "--unlabelled 'nowhere' is not a folder. Use a folder of images.",
        2,
    ),
    (
        ["--space", "smoke", "--unlabelled", "labels"],
        "--unlabelled cannot be used, because no model of this space learns from images without "
        "labels. To classify images, use --space auto, or --set model.name=spread_mobilenet_v2.",
        2,
    ),
    (
        ["--space", "probe", "--set", "model.name=spread_resnet18"],
        "spread_resnet18 learns from images without labels, too. Name their folder with "
        "--unlabelled FOLDER, or use another model.",
        2,
    ),
    (
        ["--space", "zoo", "--set", "model.weights=none.pth"],
        "--weights 'none.pth' does not exist.",
        2,
    ),
    (
        ["--space", "zoo", "--set", "model.weights=~nobody-of-ours/x"],
        "--set model.weights: there is no home folder for '~nobody-of-ours'",
        2,
    ),
    (
        ["--space", "transfer", "--weights", "typo.yaml", "--set", "model.pretrained=false"],
        "initial weights (--weights) and model.pretrained=false contradict",
        2,
    ),
    (
        ["--space", "transfer", "--weights", "empty"],
        "there are no pretrained weights for mobilenet_v2, resnet18, squeezenet1_0, whose",
        2,
    ),
    (
        ["--space", "table3", "--weights", "typo.yaml"],
        (
            "--weights cannot be used, because no model of this space can start from trained "
            "weights (deep_cnn). Use --space auto, transfer or zoo, or one "
            "of the task with pretrained networks."
        ),
        2,
    ),
    (
        ["--space", "zoo", "--set", "model.layers=3"],
        "no model of this search has the option 'layers'. Known options: ",
        2,
    ),
    (
        ["--space", "zoo", "--set", "model.freeze=backbone"],
        "model.freeze=backbone would freeze weights that have never been trained.",
        2,
    ),
    (
        [
            "--space",
            "baselines",
            "--set",
            "model.name=svm",
            "--workers",
            "2",
            "--cpus-per-trial",
            "0.1",
        ],
        "svm is a baseline, and a baseline is fitted by one process (got --workers 2).",
        2,
    ),
    (
        ["--space", "baselines", "--set", "model.name=knn", "--set", "model.neighbours=5000"],
        "model.neighbours 5000 exceeds the 1079 training images. Use a smaller value, or "
        "add images.",
        2,
    ),
    (
        ["--space", "baselines", "--set", "model.name=svm", "--set", "data.image_size=7"],
        "svm needs images of at least 8 x 8 pixels (got 7 x 7).",
        2,
    ),
    # The config file
    (
        ["--space", "table3", "--data", "scenes"],
        "--space table3 cannot be used for segmentation, the task of the data set 'scenes'. Use "
        "one of these spaces: segmentation, segmentation_zoo.",
        2,
    ),
    (
        ["--space", "segmentation", "--data", "digits"],
        "--space segmentation cannot be used for classification, the task of the data set "
        "'digits'. Use --data scenes or folder:PATH, or one of these spaces: auto, ",
        2,
    ),
    (
        ["--config", "typo.yaml"],
        (
            "typo.yaml:5: unknown key 'optimizer.lerning_rate'. Known: "
            "optimizer.backbone_lr, optimizer.decay, optimizer.lr,"
        ),
        2,
    ),
    (["--config", "twice.yaml"], "twice.yaml:3: 'trials' is given twice (first in line 2).", 2),
    (["--config", "tab.yaml"], "tab.yaml:2: tabs are not allowed for indentation; use spaces.", 2),
    (
        ["--config", "object.yaml"],
        (
            "object.yaml:1: the tag '!!python/object/apply:os.system' is not allowed; use plain "
            "values."
        ),
        2,
    ),
    (["--config", "bomb.yaml"], "bomb.yaml:1: YAML anchors and aliases are not allowed.", 2),
    (
        ["--config", "none.yaml"],
        "config file 'none.yaml' (--config) cannot be read (No such file or directory).",
        2,
    ),
    (["--config", "/dev/zero"], "config file '/dev/zero' (--config) is larger than 1 MB", 2),
    # The data
    (
        ["--space", "table3", "--data", "minst"],
        (f"unknown data set 'minst'. Known: {', '.join(sorted(DATA_SETS))}. Did you mean 'mnist'?"),
        2,
    ),
    (
        ["--space", "table3", "--data", "single"],
        "'single' is a folder. Use --data folder:single.",
        2,
    ),
    (
        ["--space", "smoke", "--data", "folder"],
        "--data 'folder' does not contain the path of a folder. Use --data folder:PATH.",
        2,
    ),
    (
        ["--space", "smoke", "--data", "digits", "--set", "data.name=folder"],
        "the data set has no folder (data.root is empty). Use --data folder:PATH.",
        2,
    ),
    (
        ["--space", "smoke", "--data", "folder:"],
        "--data 'folder:' does not contain the path of a folder. Use --data folder:PATH.",
        2,
    ),
    (
        ["--space", "smoke", "--data", "mnist"],
        "the files of mnist are missing or damaged in 'data' (--data-root).",
        2,
    ),
    (
        ["--space", "smoke", "--data", "mnist", "--data-root", "labels"],
        (
            "the training set has 40 images and 40 labels up to 12, but needs one label from 0 to "
            "9 for each image."
        ),
        2,
    ),
    (
        ["--space", "smoke", "--data", "folder:nowhere"],
        (
            "data set folder not found: 'nowhere' (--data folder:PATH, or --data-root PATH if a "
            "search's folder was moved). Expected one sub-folder per class."
        ),
        2,
    ),
    (["--space", "smoke", "--data", "folder:labls"], LABELS_MEANT, 2),
    (["--space", "smoke", "--data", "folder:text.db"], "'text.db' is a file (--data folder:", 2),
    (
        ["--space", "smoke", "--data", "folder:flat"],
        "there are no class folders in 'flat'. Expected one sub-folder per class with its images.",
        2,
    ),
    (
        ["--space", "smoke", "--data", "folder:gif"],
        "class 'b' has 1 image; each class needs a training, a validation and a test image.",
        2,
    ),
    (
        ["--space", "smoke", "--data", "folder:only"],
        "only one class was found ('a'). A classifier needs at least two.",
        2,
    ),
    (
        ["--space", "smoke", "--data", "folder:single"],
        "class 'b' has 1 image; each class needs a training, a validation and a test image.",
        2,
    ),
    (
        ["--space", "smoke", "--data", "folder:dots"],
        "table2 needs images of at least 4 x 4 pixels (got 1 x 1).",
        2,
    ),
    (
        ["--space", "smoke", "--data", "folder:renamed"],
        (
            "2 images cannot be read (first: a/bad.png: the file is not an image). "
            "Remove them, or leave them out with --skip-bad."
        ),
        2,
    ),
    (
        ["--space", "smoke", "--data", "folder:truncated"],
        f"1 image cannot be read (first: a/bad.png: {CUT_OFF}",
        2,
    ),
    (
        ["--space", "smoke", "--data", "folder:large"],
        "1 image cannot be read (first: a/bad.png: the image has 144 million pixels (at most 50 "
        "million are allowed)).",
        2,
    ),
    (
        ["--space", "smoke", "--data", "folder:larger"],
        "1 image cannot be read (first: a/bad.png: the image has too many pixels (at most 50 "
        "million are allowed)).",
        2,
    ),
    (
        ["--space", "smoke", "--data", "folder:escape"],
        "1 image cannot be read (first: a/\\x1b[2J.png: the file is not an image).",
        2,
    ),
    (
        ["--space", "smoke", "--data", "folder:escaped", "--skip-bad"],
        "class 'b\\x1b[2J' has 1 image;",
        2,
    ),
    (
        ["--space", "smoke", "--data", "folder:\udcff"],
        "--data must be valid UTF-8 text (got 'folder:\\udcff').",
        2,
    ),
    # Names and places
    (
        ["--space", "smoke", "--name", "../up"],
        "--name must have 1 to 64 of the characters A-Z a-z 0-9 . _ - and must not start "
        "with . or - (got '../up'; for example 'up').",
        2,
    ),
    (
        ["--space", "smoke", "--name", ".."],
        "--name must have 1 to 64 of the characters A-Z a-z 0-9 . _ -",
        2,
    ),
    (
        ["--space", "smoke", "--name", "☃"],
        "--name must have 1 to 64 of the characters A-Z a-z 0-9 . _ -",
        2,
    ),
    (
        ["--space", "smoke", "--name=-x"],
        "--name must have 1 to 64 of the characters A-Z a-z 0-9 . _ -",
        2,
    ),
    (
        ["--space", "smoke", "--name", "a" * 65],
        "--name must have 1 to 64 of the characters A-Z a-z 0-9 . _ -",
        2,
    ),
    (
        ["--space", "smoke", "--name", "a" * 300],
        "--name is too long: at most 4,000 characters are allowed, and 255 bytes for each name",
        2,
    ),
    (
        ["--config", "nul.yaml"],
        "--name must have 1 to 64 of the characters A-Z a-z 0-9 . _ - and must not start "
        "with . or - (got 'a\\x00b'; for example 'a-b').",
        2,
    ),
    (
        ["--space", "smoke", "--name", "taken"],
        "a search named 'taken' already exists in 'searches'. Use another --name, or continue it: ",
        2,
    ),
    (["--space", "smoke", "--storage", "/proc/none"], "storage '/proc/none' is not writable", 4),
    (
        ["--space", "smoke", "--storage", "text.db"],
        "storage 'text.db' is not writable (File exists). Use another --storage.",
        4,
    ),
    (
        ["--space", "smoke", "--storage", "text.db/in"],
        "storage 'text.db/in' is not writable (Not a directory). Use another --storage.",
        4,
    ),
    (
        ["--space", "smoke", "--storage", "s" * 300],
        "--storage is too long: at most 4,000 characters are allowed, and 255 bytes for each name",
        2,
    ),
    (
        ["--space", "smoke", "--storage", "gs://bucket/x"],
        "argument --storage: expected a folder or s3://BUCKET/PREFIX (got 'gs://bucket/x')",
        2,
    ),
    (
        ["--space", "smoke", "--storage", "s3://"],
        "argument --storage: 's3://' is not a valid S3 address. Use s3://BUCKET/PREFIX",
        2,
    ),
    (
        ["--space", "smoke", "--set", "model.width=4096", "--trials", "1000000"],
        "the checkpoints need about ",
        4,
    ),
    # MLflow
    (
        ["--space", "smoke", "--tracking", "http://127.0.0.1:9"],
        "MLflow cannot be reached at http://127.0.0.1:9",
        4,
    ),
    (
        ["--space", "smoke", "--tracking", "http://no-such-host.invalid:5000"],
        "MLflow cannot be reached at http://no-such-host.invalid:5000 (",
        4,
    ),
    (
        ["--space", "smoke", "--tracking", "./mlruns"],
        "MLflow no longer supports a folder as the tracking URI",
        2,
    ),
    (
        ["--space", "smoke", "--tracking", "http://127.0.0.1:99999"],
        "'http://127.0.0.1:99999' is not a tracking URI (Port out of range 0-65535).",
        2,
    ),
    (
        ["--space", "smoke", "--tracking", "ftp://127.0.0.1"],
        "unknown kind of tracking URI 'ftp'.",
        2,
    ),
    (
        ["--space", "smoke", "--tracking", "sqlite:////proc/none/x.db"],
        "the folder '/proc/none' of sqlite:////proc/none/x.db does not exist or is not writable",
        4,
    ),
    (
        ["--space", "smoke", "--tracking", "sqlite:///text.db"],
        "sqlite:///text.db cannot be opened (file is not a database).",
        4,
    ),
    (
        ["--space", "smoke", "--tracking", "sqlite://"],
        "'sqlite://' does not name a file, so no results would be stored.",
        2,
    ),
    # Machines
    (
        ["--space", "smoke", "--device", "cuda"],
        "the search needs 1 GPU per trial, but no GPU was found. Use --device cpu.",
        4,
    ),
    (
        ["--space", "smoke", "--gpus-per-trial", "0.5"],
        "the search needs 0.5 GPU per trial, but no GPU was found. Use --device cpu.",
        4,
    ),
    (
        ["--space", "smoke", "--cpus-per-trial", "5000"],
        "one trial needs 5000 CPUs and 0 GPUs, but there are",
        4,
    ),
    (["--space", "smoke", "--cpus-per-trial", "nan"], "--cpus-per-trial must be > 0", 2),
    (
        ["--space", "smoke", "--address", "127.0.0.1:9"],
        "there is no Ray cluster at '127.0.0.1:9'",
        4,
    ),
    (
        ["--space", "smoke", "--address", "nowhere"],
        "'nowhere' is not the address of a Ray cluster. Use local, auto or HOST:PORT.",
        4,
    ),
    # Numbers that only look like some
    (
        ["--space", "smoke", "--fuse", "²"],
        "--fuse must be auto, off, measure or a whole number from 2 to 64 (got '²').",
        2,
    ),
    (
        ["--space", "smoke", "--fuse", "٣"],
        "--fuse must be auto, off, measure or a whole number from 2 to 64",
        2,
    ),
    (
        ["--space", "smoke", "--concurrency", "²"],
        "argument --concurrency: a whole number or auto is needed (got '²').",
        2,
    ),
    (
        ["--space", "smoke", "--concurrency", "9" * 5000],
        "argument --concurrency: a whole number or auto is needed (got '9",
        2,
    ),
    (
        ["--space", "smoke", "--trials", "9" * 20],
        "--trials must be at most 1,000,000,000 (got 1e+20).",
        2,
    ),
    (
        ["--space", "smoke", "--max-epochs", "125" + "0" * 400],
        "--max-epochs must be at most 1,000,000,000 (got 1.25e+402).",
        2,
    ),
    (
        ["--space", "smoke", "--sure", "1"],
        "--sure must be a probability of at least 0 and below 1 (got 1).",
        2,
    ),
    (
        ["--space", "smoke", "--sure", "0.5", "--scheduler", "fifo"],
        "--sure 0.5 has no effect with --scheduler fifo. Leave one of them out.",
        2,
    ),
    (
        ["--space", "smoke", "--grace", "2", "--scheduler", "fifo"],
        "--grace 2 has no effect with --scheduler fifo. Leave one of them out.",
        2,
    ),
    (
        ["--space", "smoke", "--sure", "0.5", "--objective", "val_accuracy,latency"],
        "--sure 0.5 cannot be combined with --objective val_accuracy,latency, because --sure "
        "applies only to accuracy. Leave one of them out.",
        2,
    ),
    (
        ["--space", "smoke", "--set", "epochs=10", "--grace", "8"],
        "--grace 8 leaves no rung before the end of the longest trial (10 epochs), so no "
        "trial would be stopped. Use --grace 7 or less, or no --grace.",
        2,
    ),
    (
        ["--space", "smoke", "--max-epochs", "1", "--grace", "1"],
        "--grace 1 leaves no rung before the end of the longest trial (1 epoch), so no "
        "trial would be stopped. Leave --grace out.",
        2,
    ),
    (
        ["--space", "smoke", "--seed", "-1"],
        "argument --seed: expected a whole number from 0 to 2147483648 (got '-1').",
        2,
    ),
    (
        ["--space", "smoke", "--sure", "nan"],
        "--sure must be a probability of at least 0 and below 1 (got nan).",
        2,
    ),
    (
        ["--space", "smoke", "--hang-timeout", "nan"],
        "--hang-timeout must be > 0 seconds and at most 1,000,000,000 (got nan).",
        2,
    ),
    (
        ["--space", "smoke", "--hang-timeout", "1e300"],
        "--hang-timeout must be > 0 seconds and at most 1,000,000,000 (got 1e+300).",
        2,
    ),
    (
        ["--space", "smoke", "--gpus-per-trial", "1.5"],
        "--gpus-per-trial must be at most 1 (got 1.5), because a process trains on one "
        "GPU or a part of it.",
        2,
    ),
    (
        ["--space", "smoke", "--address", "127.0.0.1:²"],
        "'127.0.0.1:²' is not the address of a Ray cluster. Use local, auto or HOST:PORT.",
        4,
    ),
    # Homes of nobody
    (
        ["--space", "smoke", "--storage", "~nobody-of-that-name/x"],
        "argument --storage: there is no home folder for '~nobody-of-that-name'",
        2,
    ),
    (
        ["--space", "smoke", "--data", "folder:~nobody-of-that-name/x"],
        "the home folder of '~nobody-of-that-name' is unknown (--data).",
        2,
    ),
    # Credentials
    (
        ["--space", "smoke", "--set", "aws_secret_access_key=hunter2"],
        f"'aws_secret_access_key' {CREDENTIAL}",
        2,
    ),
    (["--space", "smoke", "--set", "data.root=/x?token=hunter2"], f"'data.root' {CREDENTIAL}", 2),
    (["--space", "smoke", "--name", "AKIAABCDEFGHIJKLMNOP"], f"'--name' {CREDENTIAL}", 2),
    (["--space", "smoke", "--data-root", "/x/password=hunter2"], f"'--data-root' {CREDENTIAL}", 2),
    (["--space", "smoke", "--password=hunter2"], "there is no option '--password'. See", 2),
    (
        ["--space", "smoke", "--trials", "AKIAABCDEFGHIJKLMNOP"],
        "argument --trials: invalid int value: '***'.",
        2,
    ),
    (["--space", "spaces.py:leaky"], "unknown model '***'.", 2),
    (["--config", "secret.yaml"], f"secret.yaml:2: 'aws_secret_access_key' {CREDENTIAL}", 2),
    (
        ["--space", "smoke", "--tracking", "http://me:hunter2@127.0.0.1:9"],
        "--tracking contains a password, which other users can see in the process list.",
        2,
    ),
]

REAL_WORDS = (
    "--trails",
    "batch_size=0",
    "object.yaml",
    "folder:large",
    "folder:\udcff",
    "/proc/none",
    "--password=hunter2",
)
REAL = [next(case for case in CASES if word in case[0]) for word in REAL_WORDS]
PROMPT = [
    next(case for case in CASES if word in case[0]) for word in ("http://127.0.0.1:9", "cuda")
]
"""The real command too, and its time."""
PROMPT_S = 10
"""A machine without GPUs and an MLflow that is away are told of within it."""


def write_images(root: Path, counts: Mapping[str, int], side: int = 8) -> None:
    """A folder of classes with so many images, all different, in each."""
    for name, count in counts.items():
        (root / name).mkdir(parents=True)
        for number in range(count):
            Image.fromarray(np.full((side, side), ord(name[0]) + 2 * number, np.uint8)).save(
                root / name / f"{number}.png"
            )


def png_header(side: int) -> bytes:
    """The beginning of a PNG of side x side pixels, as a decompression bomb has it."""
    content = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I", 13)
        + b"IHDR"
        + content
        + struct.pack(">I", zlib.crc32(b"IHDR" + content))
        + struct.pack(">I", 9)
        + b"IDAT"
    )


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything that the catalogue's rows name, in one folder."""
    root = tmp_path_factory.mktemp("broken")
    for name, text in FILES.items():
        (root / name).write_text(text)
    write_images(root / "only", {"a": 5})
    write_images(root / "single", {"a": 5, "b": 1})
    (root / "flat").mkdir()
    (root / "empty").mkdir()
    write_images(root / "gif", {"a": 5, "b": 0})
    Image.new("L", (8, 8)).save(root / "gif" / "b" / "a.gif")
    write_images(root / "dots", {"a": 60, "b": 60}, side=1)
    for name in ("renamed", "truncated", "large", "larger"):
        write_images(root / name, {"a": 5, "b": 5})
    (root / "renamed" / "a" / "bad.png").write_text("this is no image")
    Image.new("L", (8, 8)).save(root / "renamed" / "b" / "icon.png", "ICO")
    whole = root / "truncated" / "a" / "bad.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)).save(whole)
    whole.write_bytes(whole.read_bytes()[:2000])
    (root / "large" / "a" / "bad.png").write_bytes(png_header(12_000))
    (root / "larger" / "a" / "bad.png").write_bytes(png_header(20_000))
    write_images(root / "escaped", {"a": 5, "b\x1b[2J": 1})
    write_images(root / "escape", {"a": 5, "b\x1b[2J": 5})
    for name in ("escape", "escaped"):
        (root / name / "a" / "\x1b[2J.png").write_text("this is no image")
    labels = root / "labels" / "MNIST" / "raw"
    labels.mkdir(parents=True)
    for part, count in (("train", 40), ("t10k", 20)):
        (labels / f"{part}-images-idx3-ubyte").write_bytes(
            struct.pack(">IIII", 0x803, count, 8, 8) + bytes(64 * count)
        )
        (labels / f"{part}-labels-idx1-ubyte").write_bytes(
            struct.pack(">II", 0x801, count) + bytes(number % 13 for number in range(count))
        )
    (root / "searches" / "taken").mkdir(parents=True)
    (root / "searches" / "taken" / "journal.jsonl").write_text("")
    return root


@pytest.fixture
def folder(tmp_path: Path, broken: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with broken things in it, on a machine without GPUs."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    # urllib keeps the proxies of a process's first request: those of this test must end with it.
    monkeypatch.setattr("urllib.request._opener", None)
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(
            name, "http://127.0.0.1:9"
        )  # whatever this machine reaches, weights are not fetched
    for path in broken.iterdir():
        (tmp_path / path.name).symlink_to(path)
    return tmp_path


@pytest.fixture
def no_session(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever starts Ray in this process has made a mistake."""

    def started(*arguments: object, **options: object) -> NoReturn:
        raise AssertionError("Ray is started")

    monkeypatch.setattr("search.execution.tune_executor.session", started)


def names_of(cases: list[Case]) -> list[str]:
    return [ascii(" ".join(words))[1:-1][:70] for words, _, _ in cases]


@pytest.mark.usefixtures("no_session")
@pytest.mark.parametrize(("words", "text", "code"), CASES, ids=names_of(CASES))
def test_bad_input_is_one_line_before_anything_starts(
    folder: Path, call: Command, words: list[str], text: str, code: int
) -> None:
    check(folder, call, words, text, code)


@pytest.mark.parametrize(("words", "text", "code"), REAL, ids=names_of(REAL))
def test_so_it_is_with_the_real_command(
    folder: Path, command: Command, words: list[str], text: str, code: int
) -> None:
    """An option, a value, a file, an image, a name that is no text, a place, a credential."""
    check(folder, command, words, text, code)


@pytest.mark.parametrize(("words", "text", "code"), PROMPT, ids=names_of(PROMPT))
def test_what_is_not_there_is_told_in_ten_seconds(
    folder: Path, command: Command, words: list[str], text: str, code: int
) -> None:
    """F12, F13: seconds of processor time, which do not depend on what else the machine does."""
    before = children_s()
    check(folder, command, words, text, code)
    assert 0 < children_s() - before < PROMPT_S


def children_s() -> float:
    """Processor time of all child processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def check(folder: Path, run: Command, words: list[str], text: str, code: int) -> None:
    before = sorted(path.name for path in folder.iterdir())
    done = run("search.run", *words)
    line, end, more = done.stderr.partition("\n")
    assert line.startswith(f"error: {text}")
    assert done.returncode == code
    assert (end, more, done.stdout) == ("\n", "", "")
    assert line.isprintable()
    assert "hunter2" not in line
    assert "AKIA" not in line
    assert {path.name for path in folder.iterdir()} - set(before) <= {"cache"}


def test_all_problems_are_listed_at_once(folder: Path, call: Command) -> None:
    done = call(
        "search.run", "--space", "smoke", "--set", "data.image_size=3", "--set", "batch_size=5000"
    )
    assert done.returncode == 2
    assert [line.partition(" ")[2][:10] for line in done.stderr.splitlines()] == [
        "batch_size",
        "table2 nee",
    ]


@pytest.mark.usefixtures("no_session")
def test_a_network_that_cannot_be_exported_is_told_before_the_search(
    folder: Path, call: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    builder = f"{build_hesitating.__module__}:{build_hesitating.__name__}"
    monkeypatch.setitem(MODELS, "table2", replace(MODELS["table2"], builder=builder))
    done = call("search.run", "--space", "smoke", "--name", "new")
    assert done.returncode == 2
    assert "checking that networks can be exported after the search (once for each): table2\n" in (
        done.stderr
    )
    *_, line = done.stderr.splitlines()
    assert line.startswith("error: 'table2' cannot be exported, so that it could be trained but")
    assert not (folder / "searches" / "new").exists()


def test_weights_that_do_not_fit_are_told_by_the_first_difference(
    folder: Path, call: Command
) -> None:
    torch.save({**resnet18().state_dict(), "bn1.weight": torch.zeros(3)}, folder / "misfit.pth")
    resnet = ["--space", "transfer", "--set", "model.name=resnet18"]
    done = call("search.run", *resnet, "--weights", "misfit.pth")
    assert done.returncode == 2
    assert done.stderr == (
        f"error: the weights '{folder}/misfit.pth' do not fit resnet18: "
        "'bn1.weight' is 3 in the file, but 64 in the network.\n"
    )
    assert not (folder / "searches").exists() or (folder / "searches").is_symlink()


def test_absent_weights_say_where_to_put_them(folder: Path, call: Command) -> None:
    resnet = ["--space", "transfer", "--set", "model.name=resnet18"]
    done = call("search.run", *resnet, "--dry-run")
    line = done.stderr
    assert done.returncode == 2
    assert f"'{folder}/cache/hub/checkpoints'. Download them with --download, " in line
    assert line.endswith(
        "put the file there (from https://download.pytorch.org/models/resnet18-f37072fd.pth), "
        "or pass it with --weights PATH. To train without pretrained weights, use for example "
        "--space table3.\n"
    )


class Silence:
    """A server that takes connections, counts those that ask anything, and never says a word."""

    def __init__(self) -> None:
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.uri = f"http://127.0.0.1:{self.listening.getsockname()[1]}"
        self.questions = 0
        self.thread = threading.Thread(target=self.listen)
        self.thread.start()

    def listen(self) -> None:
        while True:
            connection, _ = self.listening.accept()
            asked = connection.recv(1)
            with connection:
                while connection.recv(4096):
                    pass
            if not asked:
                return
            self.questions += 1

    def close(self) -> None:
        """Take no more connections, once those that came before this are counted."""
        if not self.thread.is_alive():
            return
        socket.create_connection(self.listening.getsockname()).close()
        self.thread.join()
        self.listening.close()


@pytest.fixture
def silence() -> Iterator[Silence]:
    made = Silence()
    yield made
    made.close()


@pytest.mark.usefixtures("no_session")
def test_an_mlflow_that_never_answers_is_asked_twice_for_seconds(
    folder: Path, call: Command, silence: Silence, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert tracking_uri.TRIES * tracking_uri.TIMEOUT_S < 10
    monkeypatch.setattr(tracking_uri, "TIMEOUT_S", 0.5)
    done = call("search.run", "--space", "smoke", "--tracking", silence.uri)
    assert done.returncode == 4
    assert done.stderr.startswith(f"error: MLflow cannot be reached at {silence.uri} (timed out).")
    silence.close()
    assert silence.questions == tracking_uri.TRIES


def test_the_environments_tracking_uri_is_taken_and_its_password_is_not_shown(
    folder: Path, call: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:hunter2@127.0.0.1:9")
    done = call("search.run", "--space", "smoke")
    assert done.returncode == 4
    assert done.stderr.startswith("error: MLflow cannot be reached at http://***@127.0.0.1:9 ")
    assert "hunter2" not in done.stderr + call("search.run", "--help").stdout


def test_bad_images_are_left_out_on_demand_and_told(folder: Path, call: Command) -> None:
    words = ["--data", "folder:renamed", "--set", "batch_size=3", "--skip-bad", "--dry-run"]
    for _ in range(2):  # decoded, then from the cache
        done = call("search.run", "--space", "smoke", *words)
        assert done.returncode == 0, done.stderr
        assert "warning: 2 images cannot be read and are left out (first: " in done.stdout
    strict = call("search.run", "--space", "smoke", "--data", "folder:renamed")
    assert strict.returncode == 2


def test_a_gpu_that_is_not_seen_is_found_when_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    from cluster.runtime.resources import local_gpus

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    assert local_gpus() == 2
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert local_gpus() == 0


def test_the_verbs_are_listed(command: Command) -> None:
    done = command("search")
    assert done.returncode == 0
    assert "python -m search.run" in done.stdout
    assert "python -m search.report" in done.stdout
    commands = {
        path.stem
        for path in Path(search.__file__).parent.glob("*.py")
        if path.stem != "__main__" and 'if __name__ == "__main__"' in path.read_text()
    }
    assert set(VERBS) == commands
