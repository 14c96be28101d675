cd lmms-eval
pip install -e .
# Example: run VSI-Bench with 4 GPUs
CUDA_VISIBLE_DEVICES=0,1,2,3 accelerate launch \
--num_processes=4 \
--num_machines=1 \
--mixed_precision=no \
--dynamo_backend=no \
--main_process_port=12346 \
-m lmms_eval \
--model qwen3_vl \
--model_args=pretrained=Qwen/Qwen3-VL-8B-Instruct,attn_implementation=flash_attention_2 \
--tasks vsibench_multiimage \
--batch_size 1 \
--log_samples \
--output_path ./logs/
