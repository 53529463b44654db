"""Two methods at two seeds from one teacher, and their table: python examples/06_study.py TEACHER DATA OUT

TEACHER: a fine-tuned classifier (02_distill.py makes one). DATA: a file or folder with the columns text and label. OUT:
the JSON of rows. Run it again, also after Ctrl-C: what OUT holds is not made again.
"""

import sys

import contrastill

teacher, data, out = sys.argv[1:4]

study = contrastill.Study(
    {"labels alone": {"method": "finetune"}, "lrc_bert": {"method": "lrc_bert"}},
    out,
    seeds=2,
    shared={"teacher": teacher, "data": data, "student": "2L", "epochs": 2},  # leave epochs out for good models
)
study.run()
print(study.markdown())
print("best on dev:", study.best())
