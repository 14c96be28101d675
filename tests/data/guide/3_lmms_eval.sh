# Run EASI-8 core benchmarks on 4 GPUs
python scripts/submissions/run_easi_eval.py \
--backend lmms-eval \
--model qwen3_vl \
--model-args "pretrained=Qwen/Qwen3-VL-8B-Instruct,attn_implementation=flash_attention_2" \
--nproc 4
# With submission
python scripts/submissions/run_easi_eval.py \
--backend lmms-eval \
--model qwen3_vl \
--model-args "pretrained=Qwen/Qwen3-VL-8B-Instruct,attn_implementation=flash_attention_2" \
--nproc 4 \
--submit \
--submission-configs '{
"modelName": "Qwen/Qwen3-VL-8B-Instruct",
"modelType": "instruction",
"precision": "bfloat16",
"revision": "main",
"weightType": "Original",
"baseModel": "Qwen3",
"remarks": "Submitted via script"
}'
