import os, time, signal
from worker.messages import *
def test_it(new_job):
    j=new_job(arch="efficientnet_b1", image_size=64, epochs=3, weights={"file":"w.pth"},batch_size=8)
    import pathlib
    os.symlink("/work/shared/weights/efficientnet_b1_warm_from_lite1.pth", pathlib.Path(j.task.data_root)/"w.pth") if 0 else __import__('shutil').copy("/work/shared/weights/efficientnet_b1_warm_from_lite1.pth", pathlib.Path(j.task.data_root)/"w.pth")
    t=time.time()
    tr=j.attempt()
    tr.wait_for(StepDone); print("first", time.time()-t)
    tr.wait_for(lambda m: isinstance(m,StepDone) and m.step==7)
    tr.kill(); tr.read_to_end()
    for i in range(6):
        j=j.after(tr)
        t=time.perf_counter()
        tr=j.attempt()
        tr.wait_for(lambda m: isinstance(m, Progress) and m.phase=='starting'); a=time.perf_counter()-t
        tr.wait_for(Prepared); b=time.perf_counter()-t
        tr.wait_for(StepDone); print(f"resume: started {a:.3f} prepared {b:.3f} first step {time.perf_counter()-t:.3f}")
        tr.kill(); tr.read_to_end()
    print(tr.log.read_text())
    assert 0
