"""Runs the SAM translator offline: translate.py TEMPLATE, with TIDEMARK_PARAMETERS as JSON. Prints what CloudFormation would get.

The translator asks AWS for managed policies and the region only: it gets none, and the environment names a region.
translate.py --read TEMPLATE... prints templates as they are, by name, with the long forms of functions.
"""

import json
import os
import sys

from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator
from samtranslator.yaml_helper import yaml_parse


def read(name):
    with open(name, encoding="utf-8") as f:
        return yaml_parse(f.read())


if sys.argv[1] == "--read":
    print(json.dumps({name: read(name) for name in sys.argv[2:]}))
    sys.exit()
template = read(sys.argv[1])
for resource in template["Resources"].values():
    if resource["Type"] == "AWS::Serverless::Function":
        # sam package would have put it there.
        resource["Properties"]["CodeUri"] = "s3://packages/function.zip"
template.get("Globals", {}).get("Function", {}).pop("CodeUri", None)
# No managed policy by name: roles are written out, and one that is not fails here.
translator = Translator({}, Parser())
print(json.dumps(translator.translate(template, json.loads(os.environ.get("TIDEMARK_PARAMETERS", "{}")))))
