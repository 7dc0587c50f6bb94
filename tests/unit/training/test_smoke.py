import pytest, time, sys, shutil, pathlib
from worker.messages import *
def test_it(new_job, monkeypatch):
    j=new_job(arch="efficientnet_b1", image_size=64, epochs=9, weights={"file":"w.pth"},batch_size=8)
    shutil.copy("/work/shared/weights/efficientnet_b1_warm_from_lite1.pth", pathlib.Path(j.task.data_root)/"w.pth")
    t=time.time()
    tr=j.attempt()
    tr.wait_for(StepDone); print("first", time.time()-t)
    tr.wait_for(lambda m: isinstance(m,StepDone) and m.step==7)
    tr.kill(); tr.read_to_end()
    out=[]
    for i in range(16):
        j=j.after(tr)
        t=time.perf_counter()
        tr=j.attempt()
        tr.wait_for(Prepared); b=time.perf_counter()-t
        tr.wait_for(StepDone); c=time.perf_counter()-t
        tr.wait_for(StepDone); out.append((b,c,time.perf_counter()-t-c)); 
        tr.kill(); tr.read_to_end()
    for k in range(3): print(['prepared','first step','second'][k], [round(x[k],2) for x in out], 'median', sorted(x[k] for x in out)[8])
    assert 0
