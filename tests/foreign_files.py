"""Files that the real packages wrote, as compressed text: tensorboard 2.21 and wandb 0.31 (offline)."""

from __future__ import annotations

import base64
import json
import zlib
from pathlib import Path

# Steps 10 to 40: train/loss 4/n and train/learning_rate 0.5; a picture of 6,000 bytes; step 50: val_loss 0.25 as a tensor, grad_norm NaN.
_TENSORBOARD = (
    "c-r$|fPjCKJmzwyw%)vAd+?T{6mL>dVrHJ6YguYuiIq{19+yr@YF=@EQBr<lQHox1X>M*}QKepaQD#YMkzOiDReV}zPHH?v<f&LQn*!8a&9^H9"
    "IKeEBeg^?AEnzM}F0K-g>H0bO#l@lw3=Iy~J3Y-bq3X^5$1@<Sm*JA)5{9ZzO)SdG%uA0iN-RkQYGkn2p4hC6X;A=BqX-s@7#w!oY1)Ko5kx&+"
    "i|)PMREB9$1W=<KhDEDat+MA>en$n<B8Ymt7V&y7?!>ex0jN;}ThQ4{2K&vyv<RXeuSG2;R}`j*Lo{Ag*^&d%m;u(<rq9)^&&6JlnOss@l&bVy"
    "kAqQwQR#zT#V8mBqhJ(_f>AIEM!_f;1*2dTjDk@x3P!;w7zLwX6pVsVFbXIJcJcCuRH1|WulAUIhK$h{^g9R`X-RO2adDI-=EQ@h0-U%w7=;+L"
    "SQr=@>}H#K=;PDG51A22FG@^_&&w~$6=h&JQ18B?{0{(<(54R"
)
# log({"train/loss": 4/i, "train/global_step": 10*i, "nested": {"a": i}, "word": "x"}) for i of 1 to 3; then eval/loss 0.25 and a NaN.
_WANDB = (
    "c-qC4O-K}B7{~XWUB~rx)%7(^=aideB#krgeCH)Pr*tawvdq`o>h8Mjj_X=<Xaj}SL*&UmB<vyvbqEg~>JUT_5d;|$bm$O7P=q3M>>XWbC)rvd"
    "Yi{qy^Zft6|HJSeKYRG(hbKPR;&k=<KoC3)K^V-(taQ#99bN`~P=mc3EATAW!%H#MG)zh5E#8#Om?_%=ACpx>R1M4G1=BXMWnmN19IJ3F*SS=)"
    "Hc5I?1<)7?*|~%zUW^&ed0F*{6v3IF3kIYkO|Svd(Fr|e83jOHx;#SVl0^^-zWF-0Mu$JWf4f5601<{d03x)&@;s{?rME4Pgc9-8c>Y*km7}tF"
    "B0V$D5Pd&xgZp4OV_z7LXY8b%a<Z(GciO?X)uB0oTnKpl3{}zk?nXzvhg8-u-LMsv%%a-Nc*=<<?E(NCY=psR+4|ko?DGXuK{N9JwxhDMdXAM8"
    "RgyJD!>}IJM6-^a-f9s>(8=iWRBvJ|n<YCUDQw=}8BUBDdZKid;yKua=#)*C76LlC%EJ%}OpIl$0`N!j5qJo}s4JIs^dzZhBV?K+s*0otSi};K"
    "vE9RI>-6dAJH%uyx(WWXmC6|*-<6?PN8I#-Rj2>rqgHg&ud9&0qR9f$EJNmZAmd8Ncn31x4YI<?n(QJ!p4q&$NK8U>8~mM)dw`0lAXtCB8Furp"
    "uR8xP_G147QW0X70qpduA)Xa}`6|f^JCYW5l?#?tu~IH7FJe_L&jrsdbuT<5t{c#Ou$MZ2HxV)+YWUQnL3cupRZnONt$v>+6-~^v`|JA+-9;VH"
    "2Vj>MwbhF%lt}lNlfo@hP2#+u0z|0J&gqE~XMkg|RGI8$$GOkfh@~)^0l(q@mu5+}{=vTDRf*VY_P!cjOdt&Y^lm&0>i68apsMFGxUn*MkW{p6"
    "J)&7|bacefMZ?TE9{KCQ_XE~`2~G"
)
TENSORBOARD = zlib.decompress(base64.b85decode(_TENSORBOARD))
WANDB = zlib.decompress(base64.b85decode(_WANDB))


def trainer_state(steps: int, total: int = 5) -> bytes:
    """As the Transformers trainer writes it at step `steps`."""
    history: list[dict[str, float]] = [
        {"loss": 4.0 / step, "learning_rate": 0.5, "grad_norm": 1.0, "epoch": step / 5, "step": step} for step in range(1, steps + 1)
    ]
    history.append({"eval_loss": 1.5, "eval_accuracy": 0.5, "epoch": steps / 5, "step": steps})
    return json.dumps({"global_step": steps, "max_steps": total, "log_history": history}).encode()


def points(events: Path) -> list[tuple[int, str, float]]:
    """`(step, metric, value)` of every whole metric line; a torn line is none."""
    found = []
    for line in events.read_bytes().split(b"\n") if events.exists() else ():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if record["type"] == "metric":
            found += [(record["step"], name, float(value)) for name, value in record["values"].items()]
    return found
