python scripts/submissions/run_easi_eval.py \
--model Qwen/Qwen2.5-VL-7B-Instruct \
--nproc 8 --rerun
