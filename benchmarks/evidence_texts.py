"""The texts of docs/evidence.md between its tables."""

ABOUT = (
    "Which method keeps how much of a teacher at equal cost. Made by `python benchmarks/evidence.py` from "
    "`benchmarks/results/*.jsonl`, which hold a line for each run, with its settings. Scores are on dev, where the "
    "best check of a run counts, for all methods alike. *better* and *worse*: the 95 % interval of the "
    "differences over seeds (Student's t) lies on one side of 0; *level*: 0 is within it. Where the difference is the "
    "same in each seed, nothing is told."
)
SHORT = (
    "Where contrastive distillation pays: LRC-BERT beside soft labels (`kd`) in the sections below, by the weights "
    "that the student starts from. The difference on dev, × 100, each method at its best rate (from all-MiniLM-L6-v2 "
    "mostly at one), with the number of seeds; fewer than three seeds are left out. Unless it says how many, all "
    "labels (`inherit`: 3,000 of SST-2 and STS-B, 2,000 of MRPC). Where the two are the same, an interval of 95 % "
    "still tells one comparison in twenty better or worse."
)
GLUE = (
    "Teacher: `sentence-transformers/all-mpnet-base-v2` (109 M parameters), fine-tuned on each task (one seed). "
    "Students: the general student `models/bert-4L-312` (14.4 M), which has a tokenizer of its own and was made of "
    "another model ([general students](#general-students)). Start, rows, batches (32), steps and schedule are the "
    "same for every method, each at the better of two rates (1e-4 and 3e-4, by seed 0); its own settings are the "
    "defaults (so `lrc_bert` has no perturbation, and `tinybert` learns from no label). The tokenizers give other ids "
    "to the same pieces of a text (`run.json`: 100.0 % of the tokens have one of the teacher's to themselves), so "
    "attention and relations are compared as among kin. `tinybert`'s loss is almost all attention's here, and it ends "
    "with one answer for all of CoLA; *relative, halves* divides each layer's term by the teacher's mean square, and "
    "gives the soft labels half of the steps ([why](methods/tinybert.md#when-to-use-it)). *From MiniLM*: the student "
    "is `all-MiniLM-L6-v2` itself (22.7 M), of which `models/bert-4L-312` was made, mostly at one rate, and stands "
    "beside `kd` from there. *From its teacher (6L-768)*: six layers of the teacher's width (66 M), by `inherit`, with "
    "the teacher's tokenizer, at one rate. BANKING77 is no task of GLUE: it is here for its many classes.\n\n"
    "```console\ncontrastill study benchmarks/glue.variants.json --seeds 1 --out benchmarks/results/glue.jsonl "
    "--by method --to kd \\\n  --place mpnet=sentence-transformers/all-mpnet-base-v2 --place glue=FOLDER "
    "--place intents=demo/banking77 \\\n  --place general=models/bert-4L-312 "
    "--place minilm=sentence-transformers/all-MiniLM-L6-v2\n"
    "contrastill study benchmarks/glue.variants.json --seeds 5 --only 'CoLA, 3e-4, lrc_bert' "
    "--out benchmarks/results/glue.jsonl …\n```\n\n"
)
PAPERS = (
    "Published, of other students (GLUE test, × 100, MRPC by F1; teacher BERT-base). There the general students were "
    "trained on all of Wikipedia, and the task's rows were augmented. Some cells of LRC-BERT's row are not certain."
)
MORE = (
    "CoLA, the set of [GLUE](#glue) of which the students keep least, each method at its rate there: in three times "
    "the steps; with copies of its texts that have [other words](augment.md), which the teacher labels (five of each, "
    "less those that are there already: 37,271; the nearest words of all-mpnet-base-v2); and from a start that has "
    "learnt MPNet's layers too (*continued*: `models/bert-4L-312` by `pretrain --student as-is` on 60,000 Wikipedia "
    "sentences). *As above*: runs of the first table, made again. *Other words* ran before [decision "
    "18](decisions/0018-labels-by-their-share.md): there each label weighed five times as much.\n\n"
    "```console\ncontrastill augment --data GLUE/CoLA --model sentence-transformers/all-mpnet-base-v2 --copies 5 "
    "--out augmented/CoLA.csv\n"
    "contrastill study benchmarks/more.variants.json --seeds 3 --out benchmarks/results/more.jsonl --by method --to kd "
    "\\\n  --place mpnet=sentence-transformers/all-mpnet-base-v2 --place glue=FOLDER "
    "--place general=models/bert-4L-312 \\\n  --place texts=sentences.txt.xz --place augmented=augmented\n```\n\n"
)
GENERAL = (
    "`4L-312` encoders without a task, as `contrastill pretrain` makes them of a sentence-embedding model, fine-tuned "
    "on the labels of a task each: the model alone is the difference. Of *MPNet* (`all-mpnet-base-v2`, 109 M) on "
    "24,000 Wikipedia sentences, and of *MiniLM* (`all-MiniLM-L6-v2`, 22.7 M) on 60,000, which takes about as long: "
    "*minutes* are those of training, on one core. *Reduced*: before it has learnt anything (two steps). "
    "`models/4L-312`: MPNet, 40,000 sentences; `models/bert-4L-312`: MiniLM, all of a million. Learning rate: the "
    "rule's, 1.9e-4; the F1 of one answer for all of MRPC is 81.2.\n\n"
    "```console\ncontrastill study benchmarks/general.variants.json --seeds 3 --out benchmarks/results/general.jsonl "
    "--by start \\\n  --place mpnet=sentence-transformers/all-mpnet-base-v2 "
    "--place minilm=sentence-transformers/all-MiniLM-L6-v2 --place texts=sentences.txt.xz \\\n  "
    "--place glue=FOLDER --place start=models/4L-312 --place general=models/bert-4L-312\n```\n\n"
)
ADDITIONS = (
    "Additions of two numbers of two digits as text ([commands](language.md#additions)). The teacher (187 thousand "
    "parameters) has learnt 8,500 problems and answers all 500 of dev rightly; the students (21 thousand) start from "
    "one checkpoint, which was trained on the answers of 300 problems, and learn from the same 300 in 1,000 steps of "
    "64. Best of 8 checks for all alike. Nats: KL to the teacher a token, on the given answers of dev."
)
BASELINES = (
    "All methods for labels where the start tells them apart most: BANKING77 with 1,000 labels, `4L-312` from random "
    "weights, 20 passes, each at the better of the rates that were run (3e-4, 1e-3; by seed 0). Teacher: "
    "`all-MiniLM-L6-v2`, fine-tuned on all labels in 3 passes. *Step* as [below](#banking77).\n\n"
    "```console\ncontrastill study benchmarks/baselines.variants.json --seeds 3 --out "
    "benchmarks/results/baselines.jsonl --by method --to kd \\\n  "
    "--place minilm=sentence-transformers/all-MiniLM-L6-v2 --place intents=demo/banking77\n```\n\n"
)
METHODS = (
    "All methods for labels, on the data of the demo (77 classes, 9,003 texts). Teacher: `all-MiniLM-L6-v2` (22.7 M), "
    "fine-tuned in 3 passes. Students: `4L-312` (14.4 M), by `inherit`, 2 passes in batches of 32, at the "
    "better of the rates that were run (1e-4, 3e-4; by seed 0). *Step*: its time "
    "beside one on labels alone ([measured in turns](benchmarks.md#a-step-of-each-method)).\n\n"
    "```console\ncontrastill study benchmarks/methods.variants.json --seeds 3 --out benchmarks/results/methods.jsonl "
    "--by method --to kd \\\n  --place minilm=sentence-transformers/all-MiniLM-L6-v2 "
    "--place data=demo/banking77\n```\n\n"
)
RATES = (
    "CoLA from a weak start, `models/4L-312`, by learning rate (3e-4 is the rule's for this width), or in three times "
    "the steps: Matthews correlation on dev, × 100, mean and standard deviation, with the number of seeds. At a third "
    "of the rule's rate `kd` and labels learn, at the rule's they answer one class; LRC-BERT learns from 1e-4 to "
    "1e-3.\n\n"
    "```console\ncontrastill study benchmarks/rates.variants.json --seeds 1 --out benchmarks/results/rates.jsonl "
    "--by method --to kd \\\n  --place mpnet=sentence-transformers/all-mpnet-base-v2 --place glue=FOLDER "
    "--place start=models/4L-312\ncontrastill study benchmarks/rates.variants.json --seeds 5 "
    "--only '1e-4, kd' --out benchmarks/results/rates.jsonl …\n```"
)
CONTRAST = (
    "LRC-BERT beside `kd` where labels are few, on sets of several kinds and from several starts: `random` weights, "
    "`inherit` of the teacher, or `general`, the student `models/bert-4L-312`, without a task. Teacher: "
    "`all-MiniLM-L6-v2` (22.7 M), fine-tuned on at most 9,000 rows in 3 passes. Students: `4L-312` (14.4 M) or "
    "`2/128/2/512` (*2/128*, 4.4 M), equal rows, batches (32) and steps, each method at the best of the rates that "
    "were run (1e-4 and 3e-4; from random weights 3e-4 and 1e-3, with 300 labels all three; *2/128*: 1e-4 to 1e-3, "
    "from random weights 3e-4 to 3e-3; by seed 0): mean and spread on dev, with the number of seeds and the rate. The "
    "teacher has seen more labels than the students; for *general*, *2/128* and QQP it was made on the second "
    "processor. *And texts*: the other rows for training as well (9,000 of SST-2), without their labels, in as many "
    "steps (1e-4 to 1e-3). *(teacher MPNet)*: of the tasks' teachers in [GLUE](#glue), whose tokenizer gives other "
    "ids, and whose layers `general` has not learnt. The F1 of one answer for all of QQP is 54.8.\n\n"
    "```console\ncontrastill study benchmarks/map.variants.json --seeds 5 --out benchmarks/results/map.jsonl "
    "--by method --to kd \\\n  --place minilm=sentence-transformers/all-MiniLM-L6-v2 --place glue=FOLDER "
    "--place intents=demo/banking77 \\\n  --place general=models/bert-4L-312\n"
    "python benchmarks/other_texts.py GLUE demo/banking77 texts\n"
    "contrastill study benchmarks/few.variants.json --seeds 5 --out benchmarks/results/few.jsonl --by method --to kd "
    "\\\n  --place minilm=sentence-transformers/all-MiniLM-L6-v2 --place mpnet=sentence-transformers/all-mpnet-base-v2 "
    "\\\n  --place glue=FOLDER --place intents=demo/banking77 --place general=models/bert-4L-312 --place texts=texts"
    "\n```\n\n"
)
STAGES = (
    "From `inherit`, `4L-312` by `kd` and by `lrc_bert` with other shares of the steps for its first stage, in which "
    "it learns layers alone: a half (the default), a fifth, none. Teacher: `all-MiniLM-L6-v2`, fine-tuned in 3 passes "
    "(HarveyNER, places in tweets: 5); of MobIE, entities in German traffic reports, `multilingual-e5-small`, in 5. "
    "Students: batches of 32; BANKING77 2 passes over all labels, SST-2 4 over 3,000, STS-B 4 over 3,000, MRPC 4 over "
    "2,000, HarveyNER and MobIE 4 over all; each at the better of the rates that were run (1e-4, 3e-4; by seed 0): "
    "mean and spread, with the number of seeds and the rate.\n\n"
    "```console\ncontrastill study benchmarks/stages.variants.json --seeds 3 --out benchmarks/results/stages.jsonl "
    "--by stages --to kd \\\n  --place minilm=sentence-transformers/all-MiniLM-L6-v2 --place data=demo/banking77 "
    "--place glue=FOLDER \\\n  --place tweets=FOLDER --place multilingual=intfloat/multilingual-e5-small "
    "--place mobie=FOLDER\n```\n\n"
)
UNSTEADY = (
    "The same students on texts with typos and without some words, and the unsteadiness of their loss "
    "([as above](#typos-and-dropped-words)), with and without gradient perturbation at the embeddings."
)
TERMS = (
    "BANKING77 with 1,000 labels from random weights, where the method counts most: LRC-BERT with one thing changed "
    "at a time ([names](methods/lrc_bert.md#ablations)), all at 3e-4 for 20 passes, without perturbation unless that "
    "is the change (steps of 1). The paper, on CoLA in its own setting: 50 with COS-NCE, 37 without.\n\n"
    "```console\ncontrastill study benchmarks/terms.variants.json --seeds 3 --out benchmarks/results/terms.jsonl "
    "--by ablation --to LRC-BERT \\\n  --place minilm=sentence-transformers/all-MiniLM-L6-v2 "
    "--place intents=demo/banking77\n```\n\n"
)
CAPTIONS = (
    "Captions to go on with (Multi30k): the first four words are the prompt. Teacher: SmolLM2-135M-Instruct, "
    "fine-tuned on 4,000 captions in one pass. Students: 8 of its 30 layers, by `inherit`, and the pieces of words "
    "that the texts need; 2,000 captions, 2 passes in batches of 16 at 5e-4, the last checkpoint, 200 dev captions. "
    "*KL* and *perplexity* are of the given answers. *Own nats*: the teacher's nats a token on what a model writes; "
    "*distinct-2*: the share of different bigrams in it ([the scores](language.md#scores)). Seeds 1 and 2 of `gkd, "
    "given, start copy` and of `gkd, reverse, own text` ran on the other processor, with a teacher that was made again "
    "there (perplexity 18.6): their seconds do not compare.\n\n"
    "```console\npython benchmarks/captions.py MULTI30K captions\n"
    "contrastill finetune --task language --model HuggingFaceTB/SmolLM2-135M-Instruct --data captions/many \\\n"
    "  --epochs 1 --batch-size 16 --learning-rate 5e-5 --checks 2 --out runs/teacher\n"
    "contrastill study benchmarks/captions.variants.json --seeds 3 --out benchmarks/results/captions.jsonl \\\n"
    "  --by method --to 'gkd, given' --place teacher=runs/teacher --place captions=captions\n```\n\n"
)
ABLATIONS = (
    "LRC-BERT of the first table ([GLUE](#glue); the general student, all at the rate that is the better one there) "
    "with one thing changed at a time ([names](methods/lrc_bert.md#ablations)), and `LRC-BERT1`: `4L-312` from random "
    "weights. There is no perturbation but in its rows: the number is the length of a token's step (an embedding is "
    "about 8 long), *raw* the gradient as it is, as the paper writes it. The paper (dev, in its own setting): CoLA "
    "falls from 50 to 37 without COS-NCE; general distillation adds 4.0 on MRPC, 12.1 on RTE and 14.9 on CoLA.\n\n"
    "```console\ncontrastill study benchmarks/ablation.variants.json --seeds 3 --out benchmarks/results/ablation.jsonl "
    "--by ablation --to LRC-BERT \\\n  --place mpnet=sentence-transformers/all-mpnet-base-v2 --place glue=FOLDER "
    "--place intents=demo/banking77 \\\n  --place general=models/bert-4L-312\n```\n\n"
)
PUBLISHED = {  # GLUE test, teacher BERT-base; LRC-BERT: Fu et al. 2021, the others as that paper quotes them
    "DistilBERT4": {"CoLA": 32.8, "RTE": 54.1, "MRPC": 82.4, "STS-B": 76.1},
    "BERT4-PKD": {"CoLA": 24.8, "RTE": 62.3, "MRPC": 82.6, "STS-B": 79.8},
    "TinyBERT4": {"CoLA": 44.1, "RTE": 66.6, "MRPC": 86.4, "STS-B": 80.4},
    "LRC-BERT": {"CoLA": 46.5, "RTE": 63.1, "MRPC": 87.0, "STS-B": 81.2},
}
ROBUSTNESS = (
    "The students above, each method at its best rate, on dev texts in which a letter of 50 or of 20 is wrong, or a "
    "word of 20 or of 10 is left out (the labels stay, though a sentence may become wrong by it): Matthews correlation "
    "× 100. *Unsteadiness*: the spread of the loss from one logged step to the next in the last stage, over its "
    "mean.\n\n"
    "```console\npython benchmarks/robustness.py benchmarks/rates.variants.json --rows benchmarks/results/rates.jsonl "
    "--runs RUNS \\\n  --only '3e-4, lrc_bert' --only '1e-4, kd' --place …\n```"
)
INTENTS = (
    "BANKING77 twice, on the same rows: SmolLM2-135M-Instruct learns to write the name of the intent behind the "
    "question (exact match), in two passes; 8 of its layers, by `inherit` and with the pieces of words that the texts "
    "need, learn it from this teacher (`gkd`) and from the answers alone. A `4L-312` encoder learns to choose among "
    "the 77 (`lrc_bert`, of [all-mpnet-base-v2](#glue)). Students: 2 passes, one seed. Time: a question at a time, "
    "PyTorch float32. Training: beside other work; of the teacher its second pass, on two cores.\n\n"
    "```console\npython benchmarks/intents_as_text.py demo/banking77 intents\n"
    "contrastill finetune --task language --model HuggingFaceTB/SmolLM2-135M-Instruct --data intents --epochs 1 \\\n"
    "  --batch-size 32 --learning-rate 5e-5 --select exact_match --checks 1 --new-tokens 14 --out runs/once\n"
    "contrastill finetune --task language --model runs/once/model --data intents --epochs 1 --seed 1 \\\n"
    "  --batch-size 32 --learning-rate 5e-5 --select exact_match --checks 1 --new-tokens 14 --out runs/twice\n"
    "contrastill distill --method gkd --teacher runs/twice --student 8L --vocabulary texts --data intents \\\n"
    "  --epochs 2 --batch-size 32 --select exact_match --checks 1 --new-tokens 14 --with-baseline --out runs/writer\n"
    "contrastill distill --method lrc_bert --teacher MPNET_RUN --student as-is --start models/bert-4L-312 \\\n"
    "  --data demo/banking77 --epochs 2 --learning-rate 1e-4 --out runs/encoder\n"
    "python benchmarks/intents.py intents 'teacher that writes=runs/twice' 'gkd=runs/writer' \\\n"
    "  'answers alone=runs/writer/baseline' 'encoder=runs/encoder'\n```\n\n"
)
