# Run EASI-8 core benchmarks on 8 GPUs
python scripts/submissions/run_easi_eval.py \
--model Qwen/Qwen2.5-VL-7B-Instruct \
--nproc 8
# With submission
python scripts/submissions/run_easi_eval.py \
--model Qwen/Qwen2.5-VL-7B-Instruct \
--nproc 8 \
--submit \
--submission-configs '{
"modelName": "Qwen/Qwen2.5-VL-7B-Instruct",
"modelType": "instruction",
"precision": "bfloat16",
"revision": "main",
"weightType": "Original",
"baseModel": "",
"remarks": "Submitted via script"
}'
