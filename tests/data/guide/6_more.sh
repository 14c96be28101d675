# Run specific benchmarks only (VLMEvalKit)
python scripts/submissions/run_easi_eval.py \
--model Qwen/Qwen2.5-VL-7B-Instruct \
--nproc 4 \
--benchmarks vsi_bench,blink,sitebench
# Run all benchmarks including extras (lmms-eval)
python scripts/submissions/run_easi_eval.py \
--backend lmms-eval \
--model qwen3_vl \
--model-args "pretrained=Qwen/Qwen3-VL-8B-Instruct,attn_implementation=flash_attention_2" \
--nproc 4 --include-extra
# Force exact_matching judge (VLMEvalKit, no API calls, faster but less accurate for BLINK)
python scripts/submissions/run_easi_eval.py \
--model Qwen/Qwen2.5-VL-7B-Instruct \
--nproc 8 \
--judge exact_matching
